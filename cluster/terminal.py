"""The terminal that a command prints to."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from strata.cluster.places import require_file

WIDTH = 120  # letters, in pipes and files: wide enough for the tables


class Terminal(Console):
    """A console whose reader may leave: a closed pipe, or a terminal that is gone, ends the output and nothing else.

    Text stands as it is: names such as ``my.module:x:`` are no pictures.
    """

    def __init__(self, **options: Any) -> None:
        """As rich's own, with its ``options``; numbers and names are not coloured."""
        super().__init__(highlight=False, emoji=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich does, while there is somebody to read it."""
        try:
            super().print(*objects, **options)
        except OSError:  # of a terminal that is gone; a pipe has a method of its own
            self.on_broken_pipe()

    def on_broken_pipe(self) -> None:
        """Print nothing from now on, neither from here nor, when Python flushes it in the end, from anywhere else."""
        self.quiet = True
        with suppress(OSError, ValueError):  # a file without a descriptor has none to redirect
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.file.fileno())
            os.close(nowhere)


def console(*, recorded: bool = False) -> Console:
    """Standard output; what is printed can be exported as a picture where it is recorded."""
    found = Terminal(record=recorded)
    return found if found.is_terminal else Terminal(record=recorded, width=WIDTH)


def waiting(shown: Console, text: str) -> AbstractContextManager[object]:
    """Say on a terminal what is going on, until it is done; a picture of the terminal does not show it."""
    return nullcontext() if shown.record else shown.status(Text(f"{text} …", style="dim"))


def replace_unprintable() -> None:
    """Let standard output and error show ``?`` for a letter that their encoding lacks, instead of failing at it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # one that was put in its place has rules of its own
            stream.reconfigure(errors="replace")


def errors() -> Console:
    """Standard error."""
    return Terminal(stderr=True)


@contextmanager
def recording(svg: Path | None) -> Iterator[Console]:
    """Standard output, saved as an SVG picture in the end if a path is given.

    Raises:
        StrataError: at the beginning, where the picture cannot be written.
    """
    if svg is not None:
        require_file("--svg", svg)
    shown = console(recorded=svg is not None)
    yield shown
    if svg is not None:
        svg.write_text(shown.export_svg(title="strata"), encoding="utf8")
