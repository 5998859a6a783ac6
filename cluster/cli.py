"""The ``strata`` command."""

import argparse
import sys
import textwrap
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from strata.engine.config.load import load_config, parse_overrides, to_yaml
from strata.engine.config.schema import RunConfig
from strata.engine.errors import StrataError, StrataWarning
from strata.engine.method.find import load_method, method_names

DESCRIPTION = "Simulate personalised, heterogeneous, multi-tier federated learning."

EXAMPLES = """
examples:
  strata run permfl                                   PerMFL at its published setting, on the data that ship with Strata
  strata run permfl rounds=20 seed=3 seeds=[1,2,3]    fewer rounds; several seeds give mean ± std
  strata run fedavg data=fashion_mnist partition=dirichlet partition.alpha=0.1
  strata run permfl clients.num_gpus=0.1              ten clients share a GPU and its memory
  strata run permfl runtime=inprocess                 without Ray, for a debugger
  strata run permfl ray.address=auto                  on a Ray cluster that runs already
  strata run my.yaml                                  a file of your own: `algorithm: permfl` and what differs
  strata run resume=runs/permfl-20260101-120000-seed0 continue after Ctrl-C, a crash or a kill
  strata compare permfl hsgd fedavg rounds=20         several methods on the same clients, in one table
  strata train-agents hapfl --rounds 2000             learn policies without training models; then
  strata run hapfl agents.checkpoint=runs/agents-hapfl/agents agents.mode=freeze
  strata architectures runs/perfedrlnas-20260101-120000-seed0   which architectures its clients ended with
  strata data partition=dirichlet --plot who.png      who holds what
  strata config permfl                                every setting, with its meaning and its range
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code (0 done, 1 failed, 2 wrong usage, 130 interrupted)."""
    _show_warnings_briefly()
    parser = _parser()
    parsed = _parse(parser, arguments)
    errors = Console(stderr=True, highlight=False)
    try:
        code: int = parsed.command(parsed)
        return code
    except StrataError as error:
        errors.print("[bold red]error:[/]", end=" ")
        errors.print(str(error), markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        errors.print("stopped; the last checkpoint can be resumed.")
        return 130
    except BrokenPipeError:
        return 1
    except Exception:
        traceback.print_exc()
        errors.print("This is a defect in Strata or in a method of your own, not in your configuration.")
        return 1


def _parse(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Options and settings in any order: argparse itself refuses settings that come after an option."""
    parsed, rest = parser.parse_known_args(arguments)
    words = getattr(parsed, "words", getattr(parsed, "overrides", None))
    if words is None or any(word.startswith("-") for word in rest):
        return parser.parse_args(arguments)
    words.extend(rest)
    return parsed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="strata", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, action: Any, help: str, example: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=help,
            description=help,
            epilog=f"example:\n  {example}\n\nSettings are written key=value; `strata config NAME` lists them all.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(command=action)
        return command

    run = add("run", _run, "Run a method, a YAML file, or resume a run.", "strata run permfl rounds=20 seed=3")
    run.add_argument("source", metavar="METHOD|FILE.yaml|resume=RUN_DIR")
    run.add_argument("overrides", nargs="*", metavar="key=value")
    run.add_argument("--svg", type=Path, help="also save what the terminal showed as an SVG picture")
    compare = add(
        "compare",
        _compare,
        "Run several methods in one setting, that of the first, or report about runs that exist: table, plots, HTML.",
        "strata compare permfl fedavg fedprox:method.mu=0.1 rounds=20 --against fedavg\n"
        "  strata compare --report runs/permfl-*-seed0 runs/fedavg-*-seed0 --target common",
    )
    compare.add_argument("words", nargs="*", metavar="METHOD|METHOD:key=value,…|key=value")
    compare.add_argument(
        "--against", action="append", default=[], metavar="METHOD", help="columns relative to this one"
    )
    compare.add_argument(
        "--target",
        metavar="ACCURACY|common|METHOD",
        help="also tabulate the rounds, virtual time, bytes and FLOPs until a target, by the first evaluated round at "
        "or above it, of the most personal kind of model: an accuracy (0..1); common, the highest that all converging "
        "methods reach (one whose best, mean over the seeds, stays more than 10 points below the best method's is left "
        "out); or the best accuracy of a method. common and METHOD are taken seed by seed",
    )
    compare.add_argument("--report", nargs="+", type=Path, metavar="RUN_DIR", help="of these runs, without training")
    compare.add_argument("--output", type=Path, metavar="FOLDER", help="folder for report.html, results.md and plots")
    compare.add_argument("--svg", type=Path, help="also save what the terminal showed as an SVG picture")
    train = add(
        "train-agents",
        _train_agents,
        "Train a method's agents in the timing model, without training any federated model.",
        "strata train-agents hapfl --rounds 2000 --output agents-hapfl",
    )
    train.add_argument("source", metavar="METHOD|FILE.yaml")
    train.add_argument("overrides", nargs="*", metavar="key=value")
    train.add_argument("--rounds", type=int, default=2000, help="rounds to learn from (default: 2000); 0: only compare")
    train.add_argument("--populations", type=int, default=16, help="populations of clients to go round (default: 16)")
    train.add_argument("--output", type=Path, help="folder for agents and curves (default: runs/agents-METHOD)")
    settled = add(
        "architectures",
        _architectures,
        "Show which architectures the clients of a run ended with; write architectures.csv and .png into its folder.",
        "strata architectures runs/perfedrlnas-20260101-120000-seed0",
    )
    settled.add_argument("run_dir", type=Path, metavar="RUN_DIR")
    data = add("data", _data, "Show who holds what.", "strata data partition=dirichlet --plot who.png")
    data.add_argument("words", nargs="*", metavar="[METHOD|FILE.yaml] key=value")
    data.add_argument("--plot", type=Path, metavar="PNG", help="also draw it")
    config = add("config", _config, "Print a resolved configuration with comments.", "strata config permfl > my.yaml")
    config.add_argument("source", metavar="METHOD|FILE.yaml")
    config.add_argument("overrides", nargs="*", metavar="key=value")
    add("list", _list, "List the methods, data sets and models.", "strata list")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    from strata.cluster.run.runner import resume, run_all
    from strata.cluster.sinks.display import display_for, seeds_table

    console = _console(arguments.svg)
    overrides = list(arguments.overrides)
    if arguments.source.startswith("resume="):
        display = display_for(console)
        changes = parse_overrides(overrides)
        code = resume(Path(arguments.source.removeprefix("resume=")), changes, display).exit_code
    else:
        config = _load(arguments.source, overrides)
        summaries = run_all(config, display_for(console))
        if len(summaries) > 1:
            results = {seed: s.last for seed, s in zip(config.seeds, summaries, strict=False)}
            console.print(seeds_table(results))
        code = max(summary.exit_code for summary in summaries)
    _save_svg(console, arguments.svg)
    return code


def _train_agents(arguments: argparse.Namespace) -> int:
    from strata.cluster.commands.train_agents import train_agents  # RLlib takes seconds to import

    for option, value, least in (("--rounds", arguments.rounds, 0), ("--populations", arguments.populations, 1)):
        if value < least:
            raise StrataError(f"{option} {value}: expected at least {least}.")
    config = load_config(arguments.source, ["agents.policy=rllib", *arguments.overrides])
    name = config.algorithm.rsplit(".", 1)[-1]
    folder = arguments.output or Path(config.output) / f"agents-{name}"
    train_agents(config, arguments.rounds, arguments.populations, folder, _console(None))
    return 0


def _load(source: str, overrides: list[str]) -> RunConfig:
    if "=" in source:
        # `strata run algorithm=permfl …`: the method may be a key like any other.
        overrides, source = [source, *overrides], "permfl"
        named = parse_overrides(overrides).get("algorithm")
        source = named if isinstance(named, str) else source
    return load_config(source, overrides)


def _compare(arguments: argparse.Namespace) -> int:
    from strata.cluster.commands.compare import Wanted, compare_methods, report_runs

    console = _console(arguments.svg)
    wanted = Wanted(arguments.against, arguments.output, arguments.target)
    if arguments.report and arguments.words:
        raise StrataError(f"--report reads runs that exist; leave out {' '.join(arguments.words)}.")
    if arguments.report:
        code = report_runs(arguments.report, wanted, console)
    else:
        code = compare_methods(arguments.words, wanted, console)
    _save_svg(console, arguments.svg)
    return code


def _architectures(arguments: argparse.Namespace) -> int:
    from strata.cluster.sinks.architectures import leave
    from strata.cluster.sinks.chosen import read_architectures

    found, console = read_architectures(arguments.run_dir), _console(None)
    console.print(found.table())
    try:
        leave(found)
    except OSError as error:
        raise StrataError(f"{arguments.run_dir}: nothing can be written there: {error}.") from None
    for line in found.reading():
        console.print(line, markup=False, soft_wrap=True)
    return 0


def _data(arguments: argparse.Namespace) -> int:
    from strata.cluster.report import holdings as report
    from strata.engine.build import build_world

    sources, overrides = _split(arguments.words)
    if len(sources) > 1:
        raise StrataError(f"data: one method or file at most, not {', '.join(sources)}.")
    world = build_world(load_config(sources[0] if sources else "permfl", overrides))
    _console(None).print(report.table(world.data))
    if arguments.plot:
        report.plot(world.data, arguments.plot)
        print(f"drawn to {arguments.plot}")
    return 0


def _config(arguments: argparse.Namespace) -> int:
    print(to_yaml(load_config(arguments.source, arguments.overrides)), end="")
    return 0


def _list(arguments: argparse.Namespace) -> int:
    table = Table(title="methods", title_justify="left")
    for heading in ("name", "what it is", "tiers"):
        table.add_column(heading)
    from strata.engine.method.algorithm import TieredAlgorithm

    for name in method_names():
        method = load_method(name)
        first = (sys.modules[method.__module__].__doc__ or "").strip().splitlines()[0]
        tiers = "global, team, client" if issubclass(method, TieredAlgorithm) else "global, client"
        table.add_row(name, first, tiers)
    console = _console(None)
    console.print(table)
    console.print(
        textwrap.dedent(
            """
            data        fashion_mnist_12k (ships with Strata), synthetic; from disk: mnist, fashion_mnist, emnist,
                        cifar10, cifar100, or a folder or file of yours; hub:OWNER/NAME from Hugging Face
            partitions  iid, dirichlet, labels, quantity, natural, file, flwr
            teams       sequential, random, labels, similarity, hierarchical, file, worst, average
            models      mclr, dnn, mlp, cnn, cnn_permfl, cnn_permfl_fmnist; cnn_series; transformer; families of five:
                        cnn_five, cnn_series_five, transformer_five; the architectures of the supernets mobilenetv3,
                        mobilenetv3_small, vit, vit_small; or package.module:factory of yours
            delays      none, classes, lognormal, pareto, loguniform, trace
            policies    none, rllib, and each method's own rules (agents.policy)
            """
        ).strip(),
        markup=False,
        soft_wrap=True,
    )
    return 0


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    return [word for word in words if "=" not in word], [word for word in words if "=" in word]


def _console(svg: Path | None) -> Console:
    """The terminal, recorded if a picture is wanted; pipes and files get lines wide enough for the tables."""
    if svg is not None and not svg.resolve().parent.is_dir():
        raise StrataError(f"--svg {svg}: there is no folder {svg.parent}.")
    console = Console(record=svg is not None, highlight=False)
    return console if console.is_terminal else Console(record=svg is not None, highlight=False, width=120)


def _save_svg(console: Console, path: Path | None) -> None:
    if path is not None:
        path.write_text(console.export_svg(title="strata"), encoding="utf8")


def _show_warnings_briefly() -> None:
    plain = warnings.showwarning

    def show(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, *rest: Any, **options: Any
    ) -> None:
        if issubclass(category, StrataWarning):
            Console(stderr=True, highlight=False).print(f"warning: {message}", markup=False, soft_wrap=True)
        else:
            plain(message, category, filename, lineno, *rest, **options)

    warnings.showwarning = show


if __name__ == "__main__":
    sys.exit(main())
