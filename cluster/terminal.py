"""The terminal that a command prints to."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from strata.engine.errors import StrataError

WIDTH = 120  # letters, in pipes and files: wide enough for the tables


def console(*, recorded: bool = False) -> Console:
    """Standard output; what is printed can be exported as a picture where it is recorded."""
    found = Console(record=recorded, highlight=False)
    return found if found.is_terminal else Console(record=recorded, highlight=False, width=WIDTH)


@contextmanager
def recording(svg: Path | None) -> Iterator[Console]:
    """Standard output, saved as an SVG picture in the end if a path is given.

    Raises:
        StrataError: at the beginning, where the picture has no folder to go to.
    """
    if svg is not None and not svg.resolve().parent.is_dir():
        raise StrataError(f"--svg {svg}: there is no folder {svg.parent}.")
    shown = console(recorded=svg is not None)
    yield shown
    if svg is not None:
        svg.write_text(shown.export_svg(title="strata"), encoding="utf8")
