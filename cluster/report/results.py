"""Runs read back from their folders, and what a comparison says about them.

# S seeds, R rounds
"""

import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strata.cluster.humanise import NOTHING
from strata.cluster.run.runner import RunSummary
from strata.cluster.sinks.jsonl import CONFIG, METRICS, read_metrics, record_from_plain
from strata.cluster.sinks.views import KINDS
from strata.engine.config.load import OWN, load_config, read_yaml, to_dict
from strata.engine.errors import ConfigError, StrataError
from strata.engine.identity import PLACEMENT_KEYS
from strata.engine.rounds.records import RoundRecord

# The number of rounds is no matter of placement here: it decides what "after the last round" means.
INDIFFERENT = (*(key for key in PLACEMENT_KEYS if key != "rounds"), "seed", "evaluation.batch_size")

Figure = Callable[["Run"], Mapping[int, float]]
"""What is drawn or tabulated of a run: a number by round, where the run has one."""


@dataclass(frozen=True)
class Run:
    """A run of one seed, as its folder tells it.

    Attributes:
        run_dir: its folder.
        config: the resolved configuration as nested plain values.
        records: its rounds, without their client calls.
        summary: what they came to.
    """

    run_dir: Path
    config: Mapping[str, Any]
    records: Sequence[RoundRecord]
    summary: RunSummary

    @property
    def seed(self) -> int:
        """Its seed."""
        return int(self.config["seed"])


@dataclass(frozen=True)
class Compared:
    """One of the things compared: the runs of a method, or of a variation of it, over the seeds."""

    label: str
    runs: Sequence[Run]

    def mean(self, figure: Callable[[RunSummary], float]) -> float:
        """The mean of a figure over the seeds."""
        return statistics.fmean(figure(run.summary) for run in self.runs)

    def accuracies(self, kind: str) -> list[float]:
        """Accuracies (0..1) of a kind of model after the last round, of the seeds that have one."""
        return [run.summary.last[kind] for run in self.runs if kind in run.summary.last]

    @property
    def personal(self) -> str:
        """The most personal kind of model that the method has: PM, else TM, else GM."""
        return next(kind for kind in KINDS if self.accuracies(kind))

    def numbers(self) -> dict[str, float]:
        """The figures of the table as numbers: accuracies 0..1, seconds, bytes; ``_std`` over the seeds."""
        found = {kind: self.accuracies(kind) for kind in KINDS if self.accuracies(kind)}
        means = {kind: statistics.fmean(values) for kind, values in found.items()}
        spread = {f"{kind}_std": statistics.stdev(values) for kind, values in found.items() if len(values) > 1}
        totals = {"virtual_s": self.mean(virtual_s), "straggling_s": self.mean(straggling_s), "bytes": self.mean(moved)}
        return {**means, **spread, **totals}


def virtual_s(summary: RunSummary) -> float:
    """Virtual seconds after the last round."""
    return summary.virtual_s


def straggling_s(summary: RunSummary) -> float:
    """Mean over the rounds of the seconds that the fastest participants waited for the slowest."""
    return summary.straggling_s


def moved(summary: RunSummary) -> float:
    """Bytes moved in both tiers and directions."""
    return summary.bytes_total


def computed(summary: RunSummary) -> float:
    """FLOPs of the clients' computation."""
    return summary.flops


def change(value: float, base: float) -> str:
    """``-24.3 %``: how much a value differs from its base; ``–`` where the base is 0."""
    return f"{round(100 * (value / base - 1), 1) + 0.0:+.1f} %" if base else NOTHING  # + 0.0: no "-0.0 %"


def read_run(run_dir: Path) -> Run:
    """A run from its folder.

    Raises:
        StrataError: where there is none, or it has no round with accuracies.
    """
    for name in (CONFIG, METRICS):
        if not (run_dir / name).is_file():
            raise StrataError(
                f"{run_dir}: expected the folder of a run, with {CONFIG} and {METRICS}; {name} is missing."
            )
    config, summary = read_yaml(run_dir / CONFIG), RunSummary(run_dir)
    try:
        # The client calls are most of the file and nothing here asks for them.
        records = [record_from_plain({**plain, "calls": []}) for plain in read_metrics(run_dir / METRICS)]
    except (KeyError, TypeError, AttributeError) as error:
        raise StrataError(f"{run_dir / METRICS}: not the rounds of a run: {error}.") from None
    for record in records:
        summary.add(record)
    if not set(summary.last) & set(KINDS):
        raise StrataError(f"{run_dir}: none of its {len(records)} rounds was evaluated; there is nothing to compare.")
    return Run(run_dir, config, records, summary)


def grouped(runs: Sequence[Run]) -> list[Compared]:
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
        by_seed: dict[int, Run] = {}
        for run in members:
            if (other := by_seed.setdefault(run.seed, run)) is not run:
                raise StrataError(f"{run.run_dir} and {other.run_dir} are the same run: equal settings, equal seed.")
    firsts = [members[0].config for members in groups.values()]
    return [Compared(_label(members[0].config, firsts), members) for members in groups.values()]


def _label(config: Mapping[str, Any], all_configs: Sequence[Mapping[str, Any]]) -> str:
    name, own = config["algorithm"], own_part(config)
    rivals = [own_part(other) for other in all_configs if other["algorithm"] == name]
    usual = _usual(name) if len(rivals) > 1 else {}
    varied = [key for key in own if any(other.get(key) != own[key] for other in rivals) and own[key] != usual.get(key)]
    return f"{name}:{','.join(f'{key}={own[key]}' for key in varied)}" if varied else str(name)


def _usual(name: str) -> dict[str, Any]:
    try:
        return own_part(to_dict(load_config(name)))
    except ConfigError:  # a run of a method that this machine does not have
        return {}


def accuracy(kind: str) -> Figure:
    """Accuracy (0..1) of a kind of model."""
    return lambda run: {record.round: record.scores[kind].accuracy for record in run.records if kind in record.scores}


def clock(run: Run) -> Mapping[int, float]:
    """Virtual seconds since the start of the run."""
    return {record.round: record.virtual_s for record in run.records}


def traffic(run: Run) -> Mapping[int, float]:
    """Bytes moved since the start of the run, in both tiers and directions."""
    total, found = RunSummary(run.run_dir), {}
    for record in run.records:
        total.add(record)
        found[record.round] = float(total.bytes_total)
    return found


def work(run: Run) -> Mapping[int, float]:
    """FLOPs of the clients' computation since the start of the run."""
    totals = accumulate(record.flops for record in run.records)
    return {record.round: float(total) for record, total in zip(run.records, totals, strict=True)}


def waiting(run: Run) -> Mapping[int, float]:
    """Straggling of each round in seconds."""
    return {record.round: record.straggling_s for record in run.records}


def metric(name: str) -> Figure:
    """A method's own metric, in the rounds that have it as a finite number."""

    def figure(run: Run) -> Mapping[int, float]:
        found = {record.round: record.metrics.get(name) for record in run.records}
        return {number: value for number, value in found.items() if value is not None and math.isfinite(value)}

    return figure


def aligned(runs: Sequence[Run], *figures: Figure) -> tuple[NDArray[np.int64], list[NDArray[np.float64]]]:
    """Figures of several seeds side by side.

    Returns:
        The rounds in which every run has every figure, ``(R,)``, and each figure's values, ``(S, R)``.
    """
    values = [[figure(run) for run in runs] for figure in figures]
    rounds = sorted(set.intersection(*(set(found) for by_run in values for found in by_run)))
    tables = [np.array([[found[number] for number in rounds] for found in by_run]) for by_run in values]
    return np.array(rounds, np.int64), tables


def dotted(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` → ``{"a.b": 1}``, as keys are written on the command line."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        path = f"{prefix}{key}"
        flat |= dotted(value, f"{path}.") if isinstance(value, Mapping) and value else {path: value}
    return flat


def own_part(config: Mapping[str, Any]) -> dict[str, Any]:
    """What belongs to the method, flat; without its name."""
    return {key: value for key, value in dotted(config).items() if key.split(".")[0] in OWN and key != "algorithm"}


def setting_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """What does not belong to the method, flat."""
    return {key: value for key, value in dotted(config).items() if key.split(".")[0] not in OWN}


def entering(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of the setting decides a result of a seed, flat: no seeds, no folders, no placement."""
    return {
        key: value
        for key, value in setting_of(config).items()
        if not any(key == one or key.startswith(f"{one}.") for one in INDIFFERENT)
    }
