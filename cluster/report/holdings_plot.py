"""The picture of a federation: clients by classes, teams marked, and how much each client holds.

# C clients, K classes
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from strata.cluster.palette import BAND, BLUE, GREY, GRID, ORANGE
from strata.engine.data.dataset import FederatedData, IntArray
from strata.engine.data.teams.formation import held_counts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BUBBLES_UP_TO = 60  # clients; beyond, bubbles would be smaller than a letter and a heat map reads better
NAMES_UP_TO = 30  # classes


def plot(federated: FederatedData, path: Path | str) -> Path:
    """Draw who holds what into a PNG file and return its path.

    Above, one column a client and one row a class (a single one where samples have none): bubbles whose area is the
    number of samples, or a heat map for more than 60 clients; clients stand team by team. Below, training and test
    samples of each client in the same order, and a histogram of the totals.
    """
    path = Path(path)
    order, borders = team_order(federated)
    counts_CK = held_counts(federated.dataset, federated.clients)[order]
    rows = min(federated.dataset.group_count, 40)
    figure = Figure(figsize=(12.0, 4.2 + 0.3 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 2, height_ratios=(0.3 * rows + 0.6, 2.2), width_ratios=(4.0, 1.0))
    holdings = figure.add_subplot(grid[0, 0])
    bars = figure.add_subplot(grid[1, 0], sharex=holdings)
    _draw_holdings(holdings, figure.add_subplot(grid[0, 1]), counts_CK)
    _mark_classes(holdings, federated)
    _draw_sizes(bars, federated, order)
    _draw_histogram(figure.add_subplot(grid[1, 1]), counts_CK.sum(axis=1))
    _mark_clients(bars, order)
    for axes in (holdings, bars):
        _mark_teams(axes, borders, named=axes is holdings, banded=axes is bars or len(order) <= BUBBLES_UP_TO)
    holdings.tick_params(labelbottom=False, bottom=False)
    figure.suptitle(_title(federated), fontsize=12, fontweight="bold", x=0.01, ha="left")
    figure.savefig(path, dpi=120, format="png")
    return path


def team_order(federated: FederatedData) -> tuple[IntArray, list[tuple[int, int, int]]]:
    """Return the clients team by team, ``(C,)``, and (team, first column, column after the last) of each team."""
    if not federated.teams:
        return np.arange(len(federated.clients)), []
    order: list[int] = []
    borders: list[tuple[int, int, int]] = []
    for team, members in federated.teams.items():
        borders.append((team, len(order), len(order) + len(members)))
        order.extend(members)
    return np.array(order, np.int64), borders


def _title(federated: FederatedData) -> str:
    teams = f" in {len(federated.teams)} teams" if federated.teams else ""
    total = sum(len(client.train) + len(client.test) for client in federated.clients)
    return f"{_literal(federated.dataset.name)}: {total:,} samples, {len(federated.clients)} clients{teams}"


def _literal(text: str) -> str:
    """A text of the user's in which nothing is a formula."""
    return text.replace("$", r"\$")


def _draw_holdings(axes: "Axes", side: "Axes", counts_CK: IntArray) -> None:
    """Draw who holds what as bubbles or a heat map, with their legend at the side."""
    clients, classes = counts_CK.shape
    axes.set_xlim(-0.5, clients - 0.5)
    axes.set_ylim(classes - 0.5, -0.5)
    side.set_axis_off()
    if clients > BUBBLES_UP_TO:
        _draw_heat_map(axes, side, counts_CK)
    else:
        _draw_bubbles(axes, side, counts_CK)


def _draw_heat_map(axes: "Axes", side: "Axes", counts_CK: IntArray) -> None:
    largest = max(int(counts_CK.max()), 2)
    shown = np.ma.masked_equal(counts_CK.T, 0)
    # The square root keeps small holdings apart from none at all.
    image = axes.imshow(shown, aspect="auto", cmap="Blues", norm=PowerNorm(0.5, 0, largest), interpolation="nearest")
    image.set_zorder(2)
    bar = side.inset_axes((0.0, 0.1, 0.08, 0.8))
    axes.figure.colorbar(image, cax=bar, label="samples (white: none)", ticks=MaxNLocator(6, integer=True))


def _draw_bubbles(axes: "Axes", side: "Axes", counts_CK: IntArray) -> None:
    largest = max(int(counts_CK.max()), 1)
    area = min(8.0 * 72 / len(counts_CK), 0.3 * 72) ** 2
    client, label = np.nonzero(counts_CK)
    axes.grid(color=GRID, linewidth=0.6, zorder=1)
    axes.scatter(client, label, s=area * counts_CK[client, label] / largest, color=BLUE, linewidths=0, zorder=3)
    sizes = sorted({max(1, _round(largest * share)) for share in (0.1, 0.4, 1.0)})
    handles = [side.scatter([], [], s=area * size / largest, color=BLUE, linewidths=0) for size in sizes]
    names = [f"{size:,}" for size in sizes]
    side.legend(handles, names, title="samples", loc="upper left", frameon=False, labelspacing=0.9)


def _round(value: float) -> int:
    """Round to one significant digit, so that a legend reads easily."""
    return int(float(f"{value:.1g}"))


def _mark_classes(axes: "Axes", federated: FederatedData) -> None:
    dataset, classes = federated.dataset, federated.dataset.group_count
    named = dataset.class_names if dataset.has_classes else ("samples",)
    names = named or tuple(str(label) for label in range(classes))
    step = -(-classes // NAMES_UP_TO)
    ticks = list(range(0, classes, step))
    shortened = [names[label] if len(names[label]) <= 14 else f"{names[label][:13]}…" for label in ticks]
    axes.set_yticks(ticks, list(map(_literal, shortened)), fontsize=9)
    axes.tick_params(length=0)
    axes.spines[["top", "right", "bottom", "left"]].set_visible(False)


def _mark_clients(axes: "Axes", order: IntArray) -> None:
    """Write client ids below the columns, as many as are readable."""
    step = max(1, -(-len(order) // 40))
    ticks = list(range(0, len(order), step))
    axes.set_xticks(ticks, [str(order[column]) for column in ticks], fontsize=8, rotation=90 if len(order) > 60 else 0)
    axes.set_xlabel("client" if step == 1 else f"client (every {step}th named)")


def _mark_teams(axes: "Axes", borders: list[tuple[int, int, int]], *, named: bool, banded: bool) -> None:
    """Draw a band behind every second team, a line between teams, and their numbers above where there is room."""
    total = borders[-1][2] if borders else 0
    for index, (team, first, after) in enumerate(borders):
        if index % 2 == 0 and banded:
            axes.axvspan(first - 0.5, after - 0.5, color=BAND, zorder=0, linewidth=0)
        if index:
            axes.axvline(first - 0.5, color=GREY, linewidth=0.8, zorder=4)
        if named and (after - first) / total > 0.015:
            name = f"team {team}" if (after - first) / total > 0.06 else str(team)
            middle = ((first + after - 1) / 2, 1.0)
            axes.annotate(
                name, middle, (0, 3), xycoords=("data", "axes fraction"), textcoords="offset points", ha="center",
                fontsize=9, color=GREY,
            )  # fmt: skip


def _draw_sizes(axes: "Axes", federated: FederatedData, order: IntArray) -> None:
    """Draw stacked bars of training and test samples."""
    train = np.array([len(federated.clients[client].train) for client in order])
    test = np.array([len(federated.clients[client].test) for client in order])
    width = 0.8 if len(order) <= BUBBLES_UP_TO else 1.0
    axes.bar(np.arange(len(order)), train, width, color=BLUE, label="train", zorder=2)
    axes.bar(np.arange(len(order)), test, width, bottom=train, color=ORANGE, label="test", zorder=2)
    axes.set_ylabel("samples")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_ylim(0, 1.25 * max(1, int((train + test).max())))
    axes.legend(loc="upper right", ncols=2, frameon=False, fontsize=9)


def _draw_histogram(axes: "Axes", sizes: IntArray) -> None:
    """Draw how many clients hold how many samples."""
    low, high = int(sizes.min()), int(sizes.max())
    bins = np.linspace(low, high, 21) if high > low else np.array([0.9 * low, 1.1 * low])
    axes.hist(sizes, bins=bins.tolist(), color=BLUE, edgecolor="white", linewidth=0.5)
    axes.set_xlabel("samples of a client")
    axes.set_ylabel("clients")
    axes.set_xlim(0, 1.05 * bins[-1])
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.spines[["top", "right"]].set_visible(False)
