"""Axes and what is drawn into them: one colour and style a method, means over the seeds, bands of ± one std.

# S seeds, R rounds
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from strata.cluster.palette import GREY, GRID
from strata.cluster.report.comparison import Comparison
from strata.cluster.report.results import Contestant
from strata.engine.evaluation.measures import Measure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Values = NDArray[np.float64]
Style = tuple[int, tuple[float, ...]]
Curve = Callable[["Axes", Contestant, str, Style], None]
"""Draws one entry into axes, in a colour and a style of line."""

# Okabe and Ito's palette, which people with any colour vision tell apart, without its yellow, which white swallows.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ((0, ()), (0, (5, 1.5)), (0, (4, 1.2, 1, 1.2)), (0, (1.2, 1.0)))  # gaps show a curve that lies below another
WIDTH_IN = 10.0
MARKED_UP_TO = 12  # points; fewer are marked, so that a single one can be seen


@dataclass(frozen=True)
class Panel:
    """One pair of axes: how a curve is drawn, and which of its axes are logarithmic (``x``, ``y``) or begin at 0."""

    title: str
    x_label: str
    y_label: str
    curve: Curve
    log: str = ""
    from_zero: bool = False


def axis_of(measure: Measure) -> tuple[str, float]:
    """How an axis of a measure is called, and by what its values are multiplied."""
    return (f"{measure.title} (%)", 100.0) if measure.is_share else (measure.title, 1.0)


def figure_of(title: str, panels: Sequence[Panel], comparison: Comparison) -> Figure:
    """Draw panels into one figure: title, legend, up to three panels a row, the setting as a footnote."""
    columns = min(len(panels), 3)
    lines = -(-len(panels) // columns)
    names = [_shortened(one.label) for one in comparison.contestants]
    across = max(1, min(len(names), 100 // (max(map(len, names)) + 6)))
    legend_in = 0.27 * -(-len(names) // across) + 0.05
    panel_in = 3.6 if columns > 1 else 4.2
    layout = ConstrainedLayoutEngine(w_pad=0.09, h_pad=0.06)
    figure = Figure(figsize=(WIDTH_IN, 0.9 + legend_in + panel_in * lines), layout=layout)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(1 + lines, columns, height_ratios=(legend_in, *[panel_in] * lines))
    _legend(figure.add_subplot(grid[0, :]), names, across)
    axes: Axes | None = None
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        axes = figure.add_subplot(grid[1 + row, column], sharex=axes)
        _panel(axes, panel, comparison.contestants)
    figure.suptitle(title, fontsize=15, fontweight="bold", x=0.01, ha="left")
    footnote = figure.supxlabel(_shortened(comparison.setting, 168), fontsize=8.5, color=GREY, x=0.01, ha="left")
    footnote.set_parse_math(False)
    return figure


def _legend(axes: "Axes", names: Sequence[str], across: int) -> None:
    axes.set_axis_off()
    handles = [Line2D([], [], color=colour, linestyle=style, linewidth=2.5) for colour, style in _looks(len(names))]
    legend = axes.legend(
        handles, ["method"] * len(names), loc="upper left", ncols=across, frameon=False, fontsize=11,
        borderaxespad=0.0, borderpad=0.0, columnspacing=1.6,
    )  # fmt: skip
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(name)  # not through the legend, which leaves out names that begin with an underscore
        text.set_parse_math(False)  # what the user wrote is no formula


def _shortened(text: str, letters: int = 90) -> str:
    """A text in one line, and not wider than the picture."""
    line = " ".join(text.split())
    return line if len(line) <= letters else f"{line[: letters - 1]}…"


def _looks(count: int) -> list[tuple[str, Style]]:
    """Colour and style of each of ``count`` lines; the first 28 differ."""
    return [(COLOURS[number % len(COLOURS)], STYLES[number % len(STYLES)]) for number in range(count)]


def _panel(axes: "Axes", panel: Panel, contestants: Sequence[Contestant]) -> None:
    for one, (colour, style) in zip(contestants, _looks(len(contestants)), strict=True):
        panel.curve(axes, one, colour, style)
    axes.set_title(panel.title, fontsize=12, color=GREY, loc="left")
    axes.set_xlabel(panel.x_label, fontsize=11)
    axes.set_ylabel(panel.y_label, fontsize=11)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=10, color=GRID)
    if panel.x_label.startswith("round"):
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    if panel.from_zero:
        axes.set_ylim(0.0, 1.06 * axes.get_ylim()[1])
    for side in panel.log:
        _logarithmic(axes, side)


def _logarithmic(axes: "Axes", side: str) -> None:
    """A logarithmic axis whose ticks are plain numbers: 0.5, 20, 1,000."""
    (axes.set_xscale if side == "x" else axes.set_yscale)("log")
    axis = axes.xaxis if side == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(10, (1.0, 2.0, 5.0), numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axis.set_minor_formatter(NullFormatter())


def line(axes: "Axes", x_R: Values, y_SR: Values, colour: str, style: Style) -> None:
    """Mean over the seeds, with a band of ± one sample standard deviation where there are several."""
    marker = "o" if len(x_R) <= MARKED_UP_TO else ""
    mean_R = y_SR.mean(axis=0)
    axes.plot(x_R, mean_R, color=colour, linestyle=style, linewidth=2.0, marker=marker, markersize=4)
    if len(y_SR) > 1:
        std_R = y_SR.std(axis=0, ddof=1)
        axes.fill_between(x_R, mean_R - std_R, mean_R + std_R, color=colour, alpha=0.18, linewidth=0)


def rolling(values_SR: Values, window: int) -> Values:
    """The mean of each round and of those before it, ``window`` at most: ``(S, R)``."""
    return np.stack([values_SR[:, max(0, r + 1 - window) : r + 1].mean(axis=1) for r in range(values_SR.shape[1])], 1)
