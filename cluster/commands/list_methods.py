"""``strata list``: the methods, and the names that parts of a configuration take."""

import sys
from argparse import ArgumentParser, Namespace

from rich.table import Table
from rich.text import Text

from strata.cluster.terminal import console

NAME = "list"
HELP = "List the methods, their named settings, data sets and models."
EXAMPLE = "strata list"
PARTS = """\
data        fashion_mnist_12k (ships with Strata), synthetic; from disk: mnist, fashion_mnist, emnist,
            cifar10, cifar100, or a folder or file of yours; hub:OWNER/NAME from Hugging Face
partitions  iid, dirichlet, labels, quantity, natural, file, flwr
teams       sequential, random, labels, similarity, hierarchical, file, worst, average
models      mclr, dnn, mlp, cnn, cnn_permfl, cnn_permfl_fmnist; cnn_series; transformer; families of five:
            cnn_five, cnn_series_five, transformer_five; the architectures of the supernets mobilenetv3,
            mobilenetv3_small, vit, vit_small; or package.module:factory of yours
delays      none, classes, lognormal, pareto, loguniform, trace
policies    none, rllib, and each method's own rules (agents.policy)"""


def add(parser: ArgumentParser) -> None:
    """Declare nothing: the command has no arguments."""


def act(arguments: Namespace) -> int:
    """Print the table of methods and the names, and what is broken of those that packages bring; returns 0."""
    shown = console()
    table, broken = methods()
    names, also = sinks()
    shown.print(table)
    shown.print(settings())
    shown.print(PARTS, markup=False, soft_wrap=True)
    shown.print(f"sinks       {', '.join(names)}", markup=False, soft_wrap=True)
    for said in [*broken, *also]:
        shown.print(f"broken      {' '.join(said.split())}", markup=False, soft_wrap=True)
    return 0


def settings() -> Table:
    """The settings that have names of their own, with what the first line of each file says."""
    from strata.engine.method.find import shipped_settings

    table = Table("name", "what it is", title="settings of methods, to run by name", title_justify="left")
    for name, path in shipped_settings().items():
        table.add_row(name, path.read_text(encoding="utf8").splitlines()[0].removeprefix("# "))
    return table


def methods() -> tuple[Table, list[str]]:
    """All methods (name, first sentence of their module, tiers), and what is wrong with those that are broken."""
    from strata.engine.errors import ConfigError
    from strata.engine.method.algorithm import TieredAlgorithm
    from strata.engine.method.find import installed_methods, load_method, method_names

    table = Table("name", "what it is", "tiers", title="methods", title_justify="left")
    broken = []
    for name in [*method_names(), *installed_methods()]:
        try:
            method = load_method(name)
        except ConfigError as error:
            broken.append(str(error))
            continue
        told = getattr(sys.modules.get(method.__module__), "__doc__", None) or ""
        first = "".join(told.strip().splitlines()[:1])
        tiers = "global, team, client" if issubclass(method, TieredAlgorithm) else "global, client"
        table.add_row(Text(name), Text(first), tiers)
    return table, broken


def sinks() -> tuple[list[str], list[str]]:
    """The names of all sinks, and what is wrong with those that are broken."""
    from strata.cluster.sinks.installed import SHIPPED, known_sinks, load_sink
    from strata.engine.errors import ConfigError

    names, broken = [], []
    for name in known_sinks():
        try:
            if name not in SHIPPED:  # Strata's own are not broken, and what they write with takes long to import
                load_sink(name)
            names.append(name)
        except ConfigError as error:
            broken.append(str(error))
    return names, broken
