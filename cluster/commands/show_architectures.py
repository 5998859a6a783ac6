"""``strata architectures``: which architectures the clients of a run ended with."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from strata.cluster.terminal import console
from strata.engine.errors import StrataError

NAME = "architectures"
HELP = "Show which architectures the clients of a run ended with; write architectures.csv and .png into its folder."
EXAMPLE = "strata architectures runs/perfedrlnas-20260101-120000-seed0"


def add(parser: ArgumentParser) -> None:
    """Declare the folder of the run."""
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR")


def act(arguments: Namespace) -> int:
    """Print the table and write the files; returns 0."""
    from strata.cluster.sinks.architectures import leave
    from strata.cluster.sinks.choices import read_architectures

    found, shown = read_architectures(arguments.run_dir), console()
    shown.print(found.table())
    try:
        leave(found)
    except OSError as error:
        raise StrataError(f"{arguments.run_dir}: nothing can be written there: {error}.") from None
    for line in found.reading():
        shown.print(line, markup=False, soft_wrap=True)
    return 0
