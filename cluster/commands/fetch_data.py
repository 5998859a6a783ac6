"""``strata fetch``: download public data sets to where ``data=NAME`` looks for them."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from strata.cluster.fetching.published import PUBLISHED
from strata.cluster.terminal import console
from strata.engine.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from strata.cluster.fetching.fetching import Progress
    from strata.cluster.fetching.published import PublishedSet

NAME = "fetch"
HELP = "Download public data sets, with their checksums, to where data=NAME looks for them."
EXAMPLE = "strata fetch mnist cifar10\n  strata fetch emnist --dry-run"


def add(parser: ArgumentParser) -> None:
    """Declare the sets, and where from and where to."""
    parser.add_argument("names", nargs="+", metavar="NAME", help=", ".join(PUBLISHED))
    parser.set_defaults(known=list(PUBLISHED))
    parser.add_argument("--root", default="", metavar="FOLDER", help="instead of $STRATA_DATA, or ~/.cache/strata")
    parser.add_argument(
        "--from",
        dest="mirror",
        default="",
        metavar="URL|FOLDER",
        help="where files of the same names lie: a mirror, or a folder of what was downloaded elsewhere",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be downloaded, and from where")


def act(arguments: Namespace) -> int:
    """Download what is not there yet; returns 0."""
    from strata.cluster.fetching.fetching import fetch, plan, whole
    from strata.engine.data.config import DataConfig
    from strata.engine.data.sources.catalogue import data_root

    shown, root = console(), data_root(DataConfig(root=arguments.root))
    for wanted in _named(arguments.names):
        folder = root / wanted.name
        if whole(folder, wanted):
            _say(shown, f"{wanted.name}: already in {folder}")
        elif arguments.dry_run:
            _say(shown, *plan(wanted, folder, arguments.mirror))
        else:
            with _progress(shown) as told:
                fetch(wanted, folder, arguments.mirror, told)
            at = f" data.root={arguments.root}" if arguments.root else ""
            _say(shown, f"{wanted.name}: in {folder}, read by data={wanted.name}{at}")
    if arguments.dry_run:
        _say(shown, "nothing was downloaded")
    return 0


def _named(names: Sequence[str]) -> "list[PublishedSet]":
    from strata.engine.suggest import closest

    for name in names:
        if name not in PUBLISHED:
            known = ", ".join(PUBLISHED)
            raise DataError(f"fetch {name}: no such set.{closest(name, list(PUBLISHED))} Expected one of {known}.")
    return [PUBLISHED[name] for name in dict.fromkeys(names)]


@contextmanager
def _progress(shown: "Console") -> "Iterator[Callable[[str, int], Progress]]":
    """A bar for each file on a terminal, a line in pipes."""
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with Bars(*columns, console=shown, disable=not shown.is_terminal) as bars:

        def told(url: str, size: int) -> "Progress":
            if not shown.is_terminal:
                _say(shown, f"{url}, {size:,} bytes")
            bar = bars.add_task(url.rpartition("/")[2], total=size)
            return lambda came: bars.update(bar, completed=came)

        yield told


def _say(shown: "Console", *lines: str) -> None:
    for line in lines:
        shown.print(line, markup=False, soft_wrap=True)
