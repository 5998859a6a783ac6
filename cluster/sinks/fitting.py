"""What is shown in less detail where a terminal is narrow."""

from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement

UNBOUNDED = 10_000  # letters


class Fitting:
    """The first of several renderables that is no wider than the terminal; the last one where none is."""

    def __init__(self, choices: Sequence[RenderableType]) -> None:
        """``choices``: from the most to the least telling."""
        self._choices = choices

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the choice."""
        *others, last = self._choices
        unbounded = options.update(width=UNBOUNDED)
        for choice in others:
            if Measurement.get(console, unbounded, choice).maximum <= options.max_width:
                yield choice
                return
        yield last
