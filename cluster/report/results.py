"""Runs read back from their folders, and what they came to, a method at a time.

# S seeds, R rounds
"""

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from strata.cluster.humanise import NOTHING
from strata.cluster.report.frame import METRIC, read_rounds
from strata.cluster.report.settings import label_of, own_part
from strata.cluster.sinks.jsonl import CONFIG, METRICS, WALL, read_metrics, read_timing
from strata.cluster.sinks.sink import Plain
from strata.cluster.sinks.views import KINDS
from strata.engine.config.written import read_yaml
from strata.engine.errors import StrataError
from strata.engine.evaluation.measures import ACCURACY, KNOWN, Measure, measure_of
from strata.engine.rounds.scores import AT_SERVER, GLOBAL, UNSEEN
from strata.engine.transport.privacy import EPSILON

EPSILON_COLUMN = f"{METRIC}{EPSILON}"
APART = (*(f"{UNSEEN}{kind}" for kind in KINDS), f"{AT_SERVER}{GLOBAL}")
"""What is in no other number: what clients that never train are served with, and the global model at the server."""


@dataclass(frozen=True)
class Run:
    """A run of one seed, as its folder tells it.

    Attributes:
        run_dir: its folder.
        config: the resolved configuration as nested plain values.
        rounds: a row a round; see :mod:`strata.cluster.report.frame`.
        headline: by which its models are compared.
        measures: names of what else was measured of them.
    """

    run_dir: Path
    config: Plain
    rounds: pd.DataFrame
    headline: Measure = KNOWN[ACCURACY]
    measures: Sequence[str] = ()

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return int(self.config["seed"])

    @cached_property
    def outcome(self) -> "pd.Series[float]":
        """What the run came to: of each column the last number there is; of the straggling, the mean of the rounds."""
        last = self.rounds.ffill().iloc[-1].copy()
        last["straggling_s"] = self.rounds["straggling_s"].mean()
        return last


@dataclass(frozen=True)
class Contestant:
    """One of the things compared: the runs of a method, or of a variation of it, over the seeds."""

    label: str
    runs: Sequence[Run]

    @cached_property
    def outcomes(self) -> pd.DataFrame:
        """What the runs came to, a row a run: the columns of :mod:`strata.cluster.report.frame`."""
        return pd.DataFrame([run.outcome for run in self.runs])

    def mean(self, column: str) -> float:
        """The mean over the seeds of what the runs came to in a column."""
        return float(self.outcomes[column].mean())

    def last(self, column: str) -> list[float]:
        """What the runs came to in a column, of the seeds that have a number there."""
        return self.outcomes[column].dropna().tolist() if column in self.outcomes else []

    @property
    def headline(self) -> Measure:
        """By what its models are compared with others': accuracy, unless the task has another measure."""
        return self.runs[0].headline

    def headlines(self, kind: str) -> list[float]:
        """Headlines of a kind of model after the last round, accuracies 0..1, of the seeds that have one."""
        return self.last(f"{kind}.{self.headline.name}")

    @property
    def epsilon(self) -> str:
        """The ε that was said of the runs, which no seed changes; ``–`` where none was."""
        said = self.last(EPSILON_COLUMN)
        return f"{statistics.fmean(said):.3g}" if said else NOTHING

    @property
    def personal(self) -> str:
        """The most personal kind of model that the method has: PM, else TM, else GM."""
        return next(kind for kind in KINDS if self.headlines(kind))

    def numbers(self) -> dict[str, float]:
        """The figures of the table: headlines (accuracies 0..1), seconds, bytes, FLOPs; ``_std`` over the seeds."""
        found = {kind: values for kind in (*KINDS, *APART) if (values := self.headlines(kind))}
        means = {kind: statistics.fmean(values) for kind, values in found.items()}
        spread = {f"{kind}_std": statistics.stdev(values) for kind, values in found.items() if len(values) > 1}
        seconds = {name: self.mean(name) for name in ("virtual_s", "straggling_s")}
        names = ("worst_decile", "macro_f1", "hurt", *self.runs[0].measures)
        main = {name: statistics.fmean(values) for name in names if (values := self.last(f"{self.personal}.{name}"))}
        if said := self.last(EPSILON_COLUMN):
            main["epsilon"] = statistics.fmean(said)
        totals = {name: self.mean(f"{name}_total") for name in ("bytes", "flops")}
        return {**means, **spread, **main, **seconds, **totals}


def change(value: float, base: float) -> str:
    """``-24.3 %``: how much a value differs from its base; ``–`` where the base is 0."""
    return f"{round(100 * (value / base - 1), 1) + 0.0:+.1f} %" if base else NOTHING  # + 0.0: no "-0.0 %"


def read_run(run_dir: Path) -> Run:
    """A run from its folder.

    Raises:
        StrataError: where there is none, or it has no round that was evaluated.
    """
    for name in (CONFIG, METRICS):
        if not (run_dir / name).is_file():
            raise StrataError(
                f"{run_dir}: expected the folder of a run, with {CONFIG} and {METRICS}; {name} is missing."
            )
    config = read_yaml(run_dir / CONFIG)
    try:
        rounds = read_rounds(run_dir / METRICS)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise StrataError(f"{run_dir / METRICS}: not the rounds of a run: {error}.") from None
    if not any(f"{kind}.accuracy" in rounds for kind in KINDS):
        raise StrataError(f"{run_dir}: none of its {len(rounds)} rounds was evaluated; there is nothing to compare.")
    scores = next(own for plain in read_metrics(run_dir / METRICS) for own in plain["scores"].values())
    headline, measures = scores.get("headline", ACCURACY), scores.get("measures", {})
    return Run(run_dir, config, rounds, measure_of(headline), [name for name in measures if name != headline])


def taken_by(run_dir: Path) -> dict[str, float]:
    """What a run took of its machine: wall seconds, those of a round and those of agents, and its peak of memory.

    NaN for what was not measured.
    """
    rounds = read_timing(run_dir)
    wall, agents = (sum(float(one[name]) for one in rounds) for name in WALL)
    peaks = [float(one["peak_bytes"]) for one in rounds if one.get("peak_bytes")]
    return {
        "wall_s": wall + agents if rounds else math.nan,
        "round_wall_s": (wall + agents) / len(rounds) if rounds else math.nan,
        "agents_wall_s": agents if rounds else math.nan,
        "peak_bytes": max(peaks, default=math.nan),
    }


def grouped(runs: Sequence[Run]) -> list[Contestant]:
    """Runs by method and its own settings, in the order given; the seeds of a method come together.

    A label is the method's name and, where that occurs with several settings, what they set differently from its YAML.

    Raises:
        StrataError: when a method is there twice with the same settings and seed.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        own = [run.config["algorithm"], own_part(run.config)]
        groups.setdefault(json.dumps(own, sort_keys=True, default=str), []).append(run)
    for members in groups.values():
        _require_different_seeds(members)
    firsts = [members[0].config for members in groups.values()]
    return [Contestant(label_of(members[0].config, firsts), members) for members in groups.values()]


def _require_different_seeds(runs: Iterable[Run]) -> None:
    by_seed: dict[int, Run] = {}
    for run in runs:
        if (other := by_seed.setdefault(run.seed, run)) is not run:
            raise StrataError(f"{run.run_dir} and {other.run_dir} are the same run: equal settings, equal seed.")


def aligned(runs: Sequence[Run], *columns: str) -> tuple[NDArray[np.int64], list[NDArray[np.float64]]]:
    """Columns of several seeds side by side.

    Returns:
        The rounds in which every run has a number in every column, ``(R,)``, and the values of each column, ``(S, R)``.
    """
    by_seed = [run.rounds.reindex(columns=list(columns)) for run in runs]
    common = pd.concat(by_seed, axis=1, join="inner").dropna()
    values_RSC = common.to_numpy().reshape(len(common), len(runs), len(columns))  # C columns
    return common.index.to_numpy(np.int64), [values_RSC[:, :, column].T for column in range(len(columns))]
