"""``strata list``: the methods, and the names that parts of a configuration take."""

import sys
from argparse import ArgumentParser, Namespace

from rich.table import Table

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
    """Print the table of methods and the names; returns 0."""
    from strata.cluster.sinks.installed import known_sinks

    shown = console()
    shown.print(methods())
    shown.print(settings())
    shown.print(PARTS, markup=False, soft_wrap=True)
    shown.print(f"sinks       {', '.join(known_sinks())}", markup=False, soft_wrap=True)
    return 0


def settings() -> Table:
    """The settings that have names of their own, with what the first line of each file says."""
    from strata.engine.method.find import shipped_settings

    table = Table("name", "what it is", title="settings of methods, to run by name", title_justify="left")
    for name, path in shipped_settings().items():
        table.add_row(name, path.read_text(encoding="utf8").splitlines()[0].removeprefix("# "))
    return table


def methods() -> Table:
    """All methods: name, the first sentence of their module, and tiers."""
    from strata.engine.method.algorithm import TieredAlgorithm
    from strata.engine.method.find import installed_methods, load_method, method_names

    table = Table("name", "what it is", "tiers", title="methods", title_justify="left")
    for name in [*method_names(), *installed_methods()]:
        method = load_method(name)
        first = (sys.modules[method.__module__].__doc__ or "").strip().splitlines()[0]
        tiers = "global, team, client" if issubclass(method, TieredAlgorithm) else "global, client"
        table.add_row(name, first, tiers)
    return table
