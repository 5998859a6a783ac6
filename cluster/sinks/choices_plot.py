"""The picture of what was chosen: per slot the clients by option, and how the policies' entropy fell."""

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from strata.algorithms.controls.searching import BUDGET_MIB
from strata.cluster.palette import BLUE, GREY, GRID
from strata.cluster.sinks.choices import Architectures, Choice

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DPI = 160
NAMED_FROM = 0.07  # share of the clients; a smaller part of a bar has no room for its name
DARK = 0.55  # of the colour map: beyond it, letters are white


def draw(found: Architectures, path: Path) -> Path:
    """Draw into a PNG file and return its path.

    Above, one bar a slot: the share of the clients that ended with each option, the smallest at the bottom and
    lightest; where budgets differ, of each third of the clients by their budget. Below, where learnt policies chose,
    their entropy: a dot each time that one chose, and the mean of the clients' present entropies.
    """
    classes = found.classes
    heights = [3.9 if len(classes) == 1 else 2.3] * len(classes) + [3.9] * bool(found.entropies)
    size = max(8.0, 2.5 + 0.62 * len(found.slots)), 1.2 + sum(heights)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for own, among in zip(axes, classes, strict=False):
        _bars(own, found, among)
        if len(classes) > 1:
            budgets = [one.metric(BUDGET_MIB) for one in among.values()]
            title = f"{len(among)} clients with {min(budgets):.3g} to {max(budgets):.3g} MiB"
            own.set_title(title, fontsize=10, loc="left")
            own.tick_params(labelbottom=among is classes[-1])
    if found.entropies:
        _entropies(axes[-1], found)
    figure.suptitle(
        f"Architectures of {len(found.clients)} clients, as they were chosen last",
        fontsize=14, fontweight="bold", x=0.01, ha="left",
    )  # fmt: skip
    figure.savefig(path, dpi=DPI, format="png", metadata={"Software": None})
    return path


def _bars(axes: "Axes", found: Architectures, among: Mapping[int, Choice]) -> None:
    shades = colormaps["Blues"]
    for column, slot in enumerate(found.slots):
        bottom, shares = 0.0, found.shares(slot, among)
        for depth, (option, share) in zip(np.linspace(0.2, 0.9, len(shares)), shares.items(), strict=True):
            axes.bar(column, share, 0.8, bottom, color=shades(depth), edgecolor="white", linewidth=0.8)
            if share >= NAMED_FROM:
                ink = "white" if depth > DARK else "black"
                axes.text(column, bottom + share / 2, f"{option:g}", ha="center", va="center", color=ink, fontsize=10)
            bottom += share
    axes.set_xticks(range(len(found.slots)), [slot.replace(".", "\n") for slot in found.slots], fontsize=9)
    if len(found.slots) > 12:
        axes.tick_params(axis="x", labelrotation=90)
    axes.set_ylabel("clients by option")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlim(-0.6, len(found.slots) - 0.4)
    axes.set_ylim(0.0, 1.0)
    axes.spines[["top", "right"]].set_visible(False)


def _entropies(axes: "Axes", found: Architectures) -> None:
    rounds = [number for own in found.entropies.values() for number in own]
    values = [value for own in found.entropies.values() for value in own.values()]
    means = present(found.entropies)
    axes.scatter(rounds, values, s=7, color=GREY, alpha=0.35, linewidths=0, label="a client's policy")
    axes.plot(list(means), list(means.values()), color=BLUE, linewidth=2.2, label="mean of the clients")
    axes.axhline(found.uniform, color=GREY, linestyle="--", linewidth=1.0, label="everything equally likely")
    axes.set_xlabel("round")
    axes.set_ylabel("entropy (nats)")
    axes.set_ylim(0.0, 1.08 * max(found.uniform, *values))
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.grid(color=GRID, linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9, loc="lower left")


def present(entropies: Mapping[int, Mapping[int, float]]) -> dict[int, float]:
    """By round, the mean entropy of all clients chosen for until then: of each, what its policy had the last time.

    The mean over a round's cohort alone would jump with who is invited.
    """
    last: dict[int, float] = {}
    means: dict[int, float] = {}
    for number in sorted({number for own in entropies.values() for number in own}):
        last |= {client: own[number] for client, own in entropies.items() if number in own}
        means[number] = statistics.fmean(last.values())
    return means
