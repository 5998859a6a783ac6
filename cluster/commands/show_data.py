"""``strata data``: which client holds what, and how it was read."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from strata.cluster.places import require_file
from strata.cluster.terminal import console
from strata.engine.errors import StrataError

NAME = "data"
HELP = "Show who holds what, and what the reader of the data chose: the range of inputs, columns, classes."
EXAMPLE = """strata data partition=dirichlet --plot who.png
  strata data data=homes.csv data.target=price partition=iid"""


def add(parser: ArgumentParser) -> None:
    """Declare the setting, and a picture of it."""
    parser.add_argument(
        "words",
        nargs="*",
        metavar="[METHOD|FILE.yaml] key=value",
        help="no method: fedavg's settings, or permfl's where teams are set",
    )
    parser.add_argument("--plot", type=Path, metavar="PNG", help="also draw it")


def act(arguments: Namespace) -> int:
    """Print the table and what it does not say, and draw the picture; returns 0."""
    from strata.cluster.report.holdings import fitting, lines, plot
    from strata.engine.build import build_world
    from strata.engine.config.load import load_config

    sources = [word for word in arguments.words if "=" not in word]
    overrides = [word for word in arguments.words if "=" in word]
    if len(sources) > 1:
        raise StrataError(f"data: one method or file at most, not {', '.join(sources)}.")
    if arguments.plot:
        require_file("--plot", arguments.plot)
    data = build_world(load_config(sources[0] if sources else _unnamed(overrides), overrides)).data
    console().print(fitting(data))
    for line in lines(data):
        console().print(line, markup=False, soft_wrap=True)
    if arguments.plot:
        plot(data, arguments.plot)
        print(f"drawn to {arguments.plot}")
    return 0


def _unnamed(overrides: Sequence[str]) -> str:
    """Whose settings hold where no method is named: a plain one's, unless teams are spoken of."""
    return "permfl" if any(word.startswith("teams") for word in overrides) else "fedavg"
