"""How headlines, such as accuracies, spread over single clients: panels of a comparison.

# C clients
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from strata.cluster.report.panels import Curve, Panel, Style, Values, axis_of
from strata.cluster.report.results import Contestant
from strata.cluster.sinks.by_client import FOLDER, SCORES, read_scores
from strata.cluster.sinks.views import KINDS, NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def spread(contestants: Sequence[Contestant]) -> Sequence[Panel]:
    """A panel a kind of model: which share of the clients has at most which accuracy, after the last evaluation."""
    found = {kind: {one.label: headlines(one, kind) for one in contestants} for kind in KINDS}
    measure = contestants[0].headline
    unit, scale = axis_of(measure)
    label = unit.replace(measure.title, f"{measure.title} of a client")
    return [
        Panel(f"{NAMES[kind]} models ({kind})", label, "clients with at most that (%)", _curve(own, scale))
        for kind, own in found.items()
        if any(len(values) for values in own.values())
    ]


def headlines(one: Contestant, kind: str) -> Values:
    """Headlines (accuracies 0..1) of single clients by a kind of model, ascending, of all seeds together: ``(C,)``."""
    by_seed = [_last(one, seed, kind) for seed in range(len(one.runs))]
    return np.sort(np.concatenate(by_seed))


def _last(one: Contestant, number: int, kind: str) -> Values:
    """What the last evaluation of a run said of its clients; empty where it has no such model or no such table."""
    run_dir = one.runs[number].run_dir
    table = read_scores(run_dir).to_pandas() if (run_dir / FOLDER / SCORES).is_dir() else None
    if table is None or kind not in table:
        return np.zeros(0)
    last = table[table["round"] == table["round"].max()]
    return np.asarray(last[kind].dropna(), np.float64)


def _curve(by_label: dict[str, Values], scale: float) -> Curve:
    def draw(axes: "Axes", one: Contestant, colour: str, style: Style) -> None:
        values_C = by_label[one.label]
        if len(values_C):
            share = 100 * np.arange(len(values_C) + 1) / len(values_C)
            x = scale * np.concatenate([values_C[:1], values_C])
            axes.step(x, share, where="post", color=colour, linestyle=style, linewidth=2.0)

    return draw
