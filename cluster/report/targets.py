"""What each method needed until it reached a target accuracy: rounds, virtual time, bytes and FLOPs.

Symbols
    m, s        a method and a seed;  a_{m,s}(t) accuracy of m's most personal kind of model (PM, else TM, else GM)
                after round t, in the rounds that were evaluated; of other tasks what they are measured by, RMSE
                with its sign turned, so that more is better
    best_{m,s}  max_t a_{m,s}(t)
    A_s         the target of seed s:
                    0.8      0.8, for every seed
                    LABEL    best_{LABEL,s}
                    common   min_m best_{m,s} over the converging m, so that all of them reach it
    t_{m,s}     the first evaluated round with a_{m,s}(t) ≥ A_s, if there is one

A method converges when its mean_s best_{m,s} comes within 10 points of the best method's (of RMSE: 10 %).
Targets of LABEL and common differ by seed, because seeds deal different data: a seed is compared with itself. Figures
are means over those seeds of a method that reached their target; factors are those of the costliest method that reached
it over the method's own.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd
from rich import box
from rich.table import Table
from rich.text import Text

from strata.cluster.humanise import NOTHING, humanise_bytes, humanise_flops, humanise_measure, humanise_seconds
from strata.cluster.report.results import Contestant, Run
from strata.cluster.sinks.display import mean_std
from strata.engine.errors import ConfigError
from strata.engine.evaluation.measures import ACCURACY, KNOWN, Measure
from strata.engine.suggest import closest

COMMON = "common"
CONVERGING = 0.10
"""Methods whose best accuracy stays further than this below the best one's do not take part in the common target."""
SPENT = ["rounds", "virtual_s", "bytes_total", "flops_total"]
"""What is used up on the way to a target: columns of :mod:`strata.cluster.report.frame`."""


@dataclass(frozen=True)
class Goal:
    """The target that was asked for.

    Attributes:
        text: as it was written: a value such as an accuracy, ``common``, or the label of a method.
        value: an accuracy, 0..1, or what else is the headline; None where it follows from the runs.
    """

    text: str
    value: float | None = None


@dataclass(frozen=True)
class Attainment:
    """A method's way to the target.

    Attributes:
        label: of the method.
        kind: of its models that is looked at.
        seeds: how many it was run with.
        spent: what had been used up when the target was reached: a row a seed of those that did, :data:`SPENT`.
    """

    label: str
    kind: str
    seeds: int
    spent: pd.DataFrame

    def mean(self, column: str) -> float:
        """The mean of a column over the seeds that reached their target; NaN where none did."""
        return float(self.spent[column].mean())


@dataclass(frozen=True)
class Targets:
    """The table of what a target took.

    Attributes:
        goal: what was asked for.
        by_seed: the target of each seed, an accuracy (0..1) or what else is the headline.
        attainments: a method each, in the order of the comparison.
        apart: labels of the methods that do not converge, and so were not asked for a common target.
        measure: the headline.
    """

    goal: Goal
    by_seed: Mapping[int, float]
    attainments: Sequence[Attainment]
    apart: Sequence[str] = ()
    measure: Measure = KNOWN[ACCURACY]

    @cached_property
    def headings(self) -> list[str]:
        """Headings of the table of targets."""
        return [
            "method", "model", "seeds", "rounds", "virtual time", "bytes", "FLOPs", "× fewer bytes", "× fewer FLOPs",
        ]  # fmt: skip

    @cached_property
    def rows(self) -> list[list[str]]:
        """Cells of the table of targets, one row a method."""
        return [
            [
                one.label,
                one.kind,
                f"{len(one.spent)} of {one.seeds}",
                _rounds(one.mean("rounds")),
                humanise_seconds(one.mean("virtual_s")),
                humanise_bytes(one.mean("bytes_total")),
                humanise_flops(one.mean("flops_total")),
                times(self.factor(one, "bytes_total")),
                times(self.factor(one, "flops_total")),
            ]
            for one in self.attainments
        ]

    def factor(self, one: Attainment, column: str) -> float:
        """How many times what a method spent goes into the costliest one's: ∞ at no cost, NaN for no answer."""
        most = max((other.mean(column) for other in self.attainments if len(other.spent)), default=math.nan)
        own = one.mean(column)
        return most / own if own else math.inf if most else math.nan

    @property
    def title(self) -> str:
        """What the target is, as a heading: ``until an accuracy of 80.00 %``."""
        title = self.measure.title
        if self.goal.value is not None:
            article = "an" if title[0] in "aR" else "a"
            return f"until {article} {title} of {humanise_measure(self.measure, self.goal.value)}"
        reading = mean_std(list(self.by_seed.values()), self.measure)
        whose = f"the common {title}" if self.goal.text == COMMON else f"the best {title} of {self.goal.text}"
        return f"until {whose}: {reading}"

    @property
    def caption(self) -> str:
        """How to read the table of targets."""
        rule = ""
        if self.goal.text == COMMON:
            best = "lowest" if self.measure.falls else "highest"
            rule = f" The target of a seed is the {best} {self.measure.title} that all converging methods reach in it."
        elif self.goal.value is None:
            rule = f" The target of a seed is the best {self.measure.title} of {self.goal.text} in it."
        apart = ""
        if self.apart:
            names, points = ", ".join(self.apart), round(100 * CONVERGING)
            behind = f"{points} % above" if self.measure.falls else f"{points} points below"
            apart = f" Left out of it, staying more than {behind} the best method: {names}."
        return (
            "Up to the first evaluated round in which a method's most personal kind of model is at or "
            f"{'below' if self.measure.falls else 'above'} the target; means over the seeds that reached it.{rule}"
            f"{apart} FLOPs: of the clients' computation. Factors: against the costliest method that reached it."
        )

    def numbers(self, label: str) -> dict[str, float]:
        """A method's row as plain numbers, ``target_…``: headline, seconds, bytes, FLOPs; what is finite of it."""
        (one,) = (one for one in self.attainments if one.label == label)
        found = {
            self.measure.name: statistics.fmean(self.by_seed.values()) if self.by_seed else math.nan,
            "seeds": float(len(one.spent)),
            "rounds": one.mean("rounds"),
            "virtual_s": one.mean("virtual_s"),
            "bytes": one.mean("bytes_total"),
            "flops": one.mean("flops_total"),
            "fewer_bytes": self.factor(one, "bytes_total"),
            "fewer_flops": self.factor(one, "flops_total"),
        }
        return {f"target_{name}": value for name, value in found.items() if math.isfinite(value)}

    def table(self) -> Table:
        """The table of targets for a terminal: in 120 letters, whatever the labels."""
        table = Table(title=Text(self.title), box=box.SIMPLE_HEAD)
        for heading in self.headings:
            left = heading in ("method", "model")
            words = heading if heading.startswith("×") else heading.replace(" ", "\n")
            table.add_column(Text(words), justify="left" if left else "right", overflow="fold")
        for cells in self.rows:
            table.add_row(*map(Text, cells))
        if self.apart:
            table.caption = Text(f"not converging, left out of the target: {', '.join(self.apart)}")
        return table


def times(factor: float) -> str:
    """``7.41 ×``; ``∞ ×`` against something that costs nothing, ``–`` where there is nothing to compare."""
    if math.isnan(factor):
        return NOTHING
    return "∞ ×" if math.isinf(factor) else f"{factor:.2f} ×" if factor < 99.95 else f"{factor:,.0f} ×"


def _rounds(mean: float) -> str:
    return NOTHING if math.isnan(mean) else f"{mean:.1f}".removesuffix(".0")


def goal_of(text: str, labels: Sequence[str], most: float = 1.0) -> Goal:
    """Read a target as it is written; ``most``: the largest value that can be one, 1 of an accuracy.

    Raises:
        ConfigError: when it is neither a value, nor ``common``, nor one of the labels.
    """
    try:
        value = float(text)
    except ValueError:
        if text == COMMON or text in labels:
            return Goal(text)
        hint = closest(text, [COMMON, *labels])
        expected = f"expected an accuracy (0..1), {COMMON}, or one of those compared: {', '.join(labels)}."
        raise ConfigError(f"--target {text}: {expected}{hint}") from None
    if not 0 <= value <= most:
        raise ConfigError(
            f"--target {text}: expected an accuracy between 0 and 1, e.g. 0.8 for 80 %; an RMSE where the setting says "
            "data.task=regression."
        )
    return Goal(text, value)


def reach(goal: Goal, contestants: Sequence[Contestant]) -> Targets:
    """Look for a target in the runs of every method."""
    measure = contestants[0].headline
    bests = pd.DataFrame({one.label: _bests(one) for one in contestants}).sort_index()
    apart = _apart(bests, measure) if goal.text == COMMON else []
    targets = _targets(goal, bests, apart, _sign(measure))
    by_seed: dict[int, float] = dict(zip(targets.index.tolist(), targets.tolist(), strict=True))
    attainments = [_attainment(one, by_seed) for one in contestants]
    told = {seed: _sign(measure) * target for seed, target in by_seed.items()}
    return Targets(goal, told, attainments, apart, measure)


def _sign(measure: Measure) -> float:
    """By what values are multiplied for more to be better."""
    return -1.0 if measure.falls else 1.0


def _rising(one: Contestant, run: Run) -> "pd.Series[float]":
    """a_{m,s}(t) by round; nothing where the run has no such models."""
    column = f"{one.personal}.{one.headline.name}"
    return _sign(one.headline) * run.rounds[column].dropna() if column in run.rounds else pd.Series(dtype=float)


def _bests(one: Contestant) -> "pd.Series[float]":
    """best_{m,s} by seed, of the runs that have such models."""
    found = {run.seed: _rising(one, run) for run in one.runs}
    return pd.Series({seed: values.max() for seed, values in found.items() if len(values)})


def _apart(bests: pd.DataFrame, measure: Measure) -> list[str]:
    """Labels of the methods that do not converge; ``bests``: a row a seed, a column a method."""
    means = bests.mean()
    within = CONVERGING * abs(means.max()) if measure.falls else CONVERGING
    return list(means.index[means < means.max() - within])


def _targets(goal: Goal, bests: pd.DataFrame, apart: Sequence[str], sign: float) -> "pd.Series[float]":
    """A_s by seed; a seed in which none of the methods that decide it was run has none."""
    if goal.value is not None:
        return pd.Series(sign * goal.value, index=bests.index)
    deciding = bests.drop(columns=list(apart)) if goal.text == COMMON else bests[[goal.text]]
    return deciding.min(axis=1).dropna()


def _attainment(one: Contestant, by_seed: Mapping[int, float]) -> Attainment:
    spent = {}
    for run in one.runs:
        values = _rising(one, run)
        above = values.index[values >= by_seed.get(run.seed, math.inf)]
        if len(above):
            spent[run.seed] = run.rounds.loc[above[0]]
    frame = pd.DataFrame.from_dict(spent, orient="index").reindex(columns=SPENT)
    return Attainment(one.label, one.personal, len(one.runs), frame)
