"""Which class is taken for which, by each method: a picture of a comparison.

# K classes
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from strata.cluster.palette import GREY
from strata.cluster.report.comparison import Comparison
from strata.cluster.report.plots import DPI, Picture
from strata.cluster.report.results import Contestant
from strata.cluster.sinks.jsonl import CONFUSION
from strata.engine.data.dataset import IntArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

READING = (
    "Rows are true classes, columns what they were taken for, each row in per cent of its samples; a darker diagonal "
    "is better. Of the most personal kind of model that a method has, at its last evaluation, all seeds together."
)
ACROSS = 3
NUMBERED_UP_TO = 12  # classes; beyond, numbers would be smaller than a letter


def draw_confusion(comparison: Comparison, folder: Path) -> Iterator[Picture]:
    """Draw the matrices of all methods that have one side by side, as a PNG file in a folder; nothing without any."""
    found = [(one, counts) for one in comparison.contestants if (counts := matrix(one)) is not None]
    if not found:
        return
    columns = min(len(found), ACROSS)
    lines = -(-len(found) // columns)
    figure = Figure(figsize=(max(5.0, 3.4 * columns), 0.6 + 3.4 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    for number, (one, counts_KK) in enumerate(found):
        _draw(figure.add_subplot(lines, columns, number + 1), one, counts_KK)
    figure.suptitle("Confusion", fontsize=15, fontweight="bold", x=0.01, ha="left")
    path = folder / "confusion.png"
    figure.savefig(path, dpi=DPI, format="png", metadata={"Software": None})
    yield Picture("Confusion", READING, path)


def matrix(one: Contestant) -> IntArray | None:
    """Samples (K, K) of all seeds of a method by true (rows) and predicted class; None where no run counted them."""
    total: IntArray | None = None
    for run in one.runs:
        path = run.run_dir / CONFUSION
        counts = json.loads(path.read_text(encoding="utf8")).get(one.personal) if path.is_file() else None
        if counts is not None:
            total = np.array(counts, np.int64) if total is None else total + np.array(counts, np.int64)
    return total


def _draw(axes: "Axes", one: Contestant, counts_KK: IntArray) -> None:
    shares_KK = counts_KK / np.maximum(counts_KK.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares_KK, cmap="Blues", vmin=0.0, vmax=1.0)
    title = axes.set_title(f"{one.label} ({one.personal})"[:40], fontsize=11, color=GREY, loc="left")
    title.set_parse_math(False)  # what the user wrote is no formula
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    if len(counts_KK) <= NUMBERED_UP_TO:
        for (row, column), share in np.ndenumerate(shares_KK):
            if share >= 0.005:
                colour = "white" if share > 0.6 else "black"
                axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=7, color=colour)
