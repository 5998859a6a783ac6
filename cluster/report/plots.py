"""The pictures of a comparison: which there are, what each shows, and how to read it.

# S seeds, R rounds
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from strata.cluster.report.clients_plot import spread
from strata.cluster.report.comparison import Comparison
from strata.cluster.report.frame import METRIC
from strata.cluster.report.panels import Curve, Panel, Style, axis_of, figure_of, line, rolling
from strata.cluster.report.results import Contestant, aligned
from strata.cluster.sinks.views import KINDS, NAMES
from strata.engine.method.control import AGENTS, REWARD

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DPI = 160
SPREAD = 10.0  # axes whose curves end this factor apart are logarithmic, or the shortest would be a stroke
Panels = Sequence[Panel]
DECIDED = f"{METRIC}{AGENTS}"

SECONDS = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "days": 86400.0}
BYTES = {"kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
FLOPS = {"MFLOP": 1e6, "GFLOP": 1e9, "TFLOP": 1e12, "PFLOP": 1e15}


@dataclass(frozen=True)
class Picture:
    """A plot that was drawn: its title, a sentence on how to read it, and its PNG file."""

    title: str
    reading: str
    path: Path


@dataclass(frozen=True)
class Plot:
    """A plot that can be drawn; ``panels`` are empty where the runs have nothing to show.

    ``{measure}`` in its texts stands for what the headline is called, ``{better}`` for where it is better.
    """

    name: str
    title: str
    reading: str
    panels: Callable[[Sequence[Contestant]], Panels]


def draw(comparison: Comparison, folder: Path) -> list[Picture]:
    """Draw every plot for which the runs have figures, as PNG files in a folder, which is made if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    return [picture for plot in PLOTS for picture in _drawn(plot, comparison, folder)]


def _drawn(plot: Plot, comparison: Comparison, folder: Path) -> Iterator[Picture]:
    panels = plot.panels(comparison.contestants)
    if panels:
        path, measure = folder / f"{plot.name}.png", comparison.headline
        better = "lower" if measure.falls else "higher"
        title, reading = (text.format(measure=measure.title, better=better) for text in (plot.title, plot.reading))
        title, reading = (f"{text[0].upper()}{text[1:]}" for text in (title, reading))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing")  # a label in letters the font does not have
            figure_of(title, panels, comparison).savefig(path, dpi=DPI, format="png", metadata={"Software": None})
        yield Picture(title, reading, path)


def _kinds(contestants: Sequence[Contestant]) -> list[str]:
    """Kinds of models that any of the methods has."""
    return [kind for kind in KINDS if any(one.headlines(kind) for one in contestants)]


def _headline_panels(contestants: Sequence[Contestant], x_label: str, column: str, unit: float, log: str) -> Panels:
    """A panel a kind of model: its headline over a column of the rounds, which is shown in ``unit``."""

    def curve(kind: str) -> Curve:
        def draw(axes: "Axes", one: Contestant, colour: str, style: Style) -> None:
            rounds_R, (x_SR, y_SR) = aligned(one.runs, column, f"{kind}.{measure.name}")
            if len(rounds_R):
                line(axes, x_SR.mean(axis=0) / unit, scale * y_SR, colour, style)

        return draw

    kinds, measure = _kinds(contestants), contestants[0].headline
    label, scale = axis_of(measure)
    return [Panel(f"{NAMES[kind]} models ({kind})", x_label, label, curve(kind), log) for kind in kinds]


def _against_rounds(contestants: Sequence[Contestant]) -> Panels:
    return _headline_panels(contestants, "round", "rounds", 1.0, "")


def _against_time(contestants: Sequence[Contestant]) -> Panels:
    return _against(contestants, "virtual time", "virtual_s", SECONDS)


def _against_bytes(contestants: Sequence[Contestant]) -> Panels:
    return _against(contestants, "bytes moved", "bytes_total", BYTES)


def _against_flops(contestants: Sequence[Contestant]) -> Panels:
    return _against(contestants, "computation of the clients", "flops_total", FLOPS)


def _against(contestants: Sequence[Contestant], name: str, column: str, units: Mapping[str, float]) -> Panels:
    ends = [one.mean(column) for one in contestants]
    if not any(ends):  # no clients have delays: nothing takes any time
        return []
    # One method alone may cost nothing, as Standalone moves no bytes; then there is a zero to be shown.
    log = "x" if all(ends) and max(ends) / min(ends) > SPREAD else ""
    unit = _unit(max(ends), units)
    label = f"{name} ({unit}{', log scale' if log else ''})"
    return _headline_panels(contestants, label, column, units[unit], log)


def _unit(largest: float, units: Mapping[str, float]) -> str:
    """The largest unit of which there are at least two, or the smallest; ``units`` ascend."""
    return [unit for unit in units if largest >= 2 * units[unit] or unit == next(iter(units))][-1]


def _straggling(contestants: Sequence[Contestant]) -> Panels:
    means = [one.mean("straggling_s") for one in contestants]
    if not any(means):
        return []
    log = "y" if all(means) and max(means) / min(means) > SPREAD else ""
    unit = _unit(max(means), SECONDS)
    label = f"straggling ({unit}{', log scale' if log else ''})"
    window = _window(contestants)
    return [
        Panel("", _rolling_label(window), label, _noisy("straggling_s", SECONDS[unit], window), log, from_zero=not log)
    ]


def _rewards(contestants: Sequence[Contestant]) -> Panels:
    window = _window(contestants)
    names = {name for one in contestants for name in one.outcomes.columns}
    rewards = sorted(name for name in names if name.startswith(DECIDED) and REWARD in name.split("/")[-1])
    return [Panel(_agent(name), _rolling_label(window), "reward", _noisy(name, 1.0, window)) for name in rewards]


def _window(contestants: Sequence[Contestant]) -> int:
    """Rounds of the rolling mean: an eighth of them, at most 25."""
    longest = max(len(run.rounds) for one in contestants for run in one.runs)
    return min(25, max(1, round(longest / 8)))


def _agent(column: str) -> str:
    """``metrics.agents/intensity/reward`` → ``intensity``."""
    _, *names, last = column.split("/")
    return " ".join([*names, *([last] if last != REWARD or not names else [])])


def _rolling_label(window: int) -> str:
    return f"round (thin: each, bold: mean of the last {window})" if window > 1 else "round"


def _noisy(column: str, unit: float, window: int) -> Curve:
    """A column of the rounds: each round thinly, and the rolling mean over it."""

    def draw(axes: "Axes", one: Contestant, colour: str, style: Style) -> None:
        rounds_R, (y_SR,) = aligned(one.runs, column)
        if not len(rounds_R):
            return
        if window > 1:
            axes.plot(rounds_R, y_SR.mean(axis=0) / unit, color=colour, linewidth=0.8, alpha=0.45)
        line(axes, rounds_R.astype(float), rolling(y_SR, window) / unit, colour, style)

    return draw


PLOTS = (
    Plot(
        "accuracy-rounds",
        "{measure} against rounds",
        "{better} and further left is better: which method learns most from a number of rounds, whatever they take.",
        _against_rounds,
    ),
    Plot(
        "accuracy-time",
        "{measure} against virtual time",
        "The same curves over the simulated seconds that the devices and networks take: the curve that is {better} "
        "has the better model at that moment.",
        _against_time,
    ),
    Plot(
        "straggling",
        "Straggling",
        "Lower is better: how long the fastest participants of a round wait for the slowest; a falling line is a "
        "method that learns to balance the work.",
        _straggling,
    ),
    Plot(
        "accuracy-bytes",
        "{measure} against bytes moved",
        "Further left is better: what {measure} costs in traffic, both tiers and both directions together.",
        _against_bytes,
    ),
    Plot(
        "accuracy-flops",
        "{measure} against the clients' computation",
        "Further left is better: what {measure} costs in FLOPs, all clients together.",
        _against_flops,
    ),
    Plot(
        "accuracy-clients",
        "{measure} of single clients",
        "{better} is better, and steeper is fairer: the share of the clients whose {measure}, after the last "
        "evaluation, is at most the one below; all seeds together.",
        spread,
    ),
    Plot(
        "agents-reward",
        "Rewards of the agents",
        "Higher is better: what each learning agent earned in a round; a rising line is a policy that improves.",
        _rewards,
    ),
)
