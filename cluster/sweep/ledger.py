"""A sweep's folder, with one for each run, and which settings lie in which: what a stopped sweep goes on from."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from strata.cluster.notebook.handle import Run
from strata.cluster.places import fresh_folder
from strata.cluster.run.runner import write_config
from strata.cluster.sweep.grid import Trial, label_of
from strata.engine.config.schema import RunConfig
from strata.engine.errors import CheckpointError, StrataError
from strata.engine.method.find import short_name

LEDGER = "sweep.json"


@dataclass(frozen=True)
class Entry:
    """A run of a sweep: its folder, what was set in it of the swept settings, by key, and its seed."""

    folder: Path
    values: Mapping[str, str]
    seed: int

    @property
    def label(self) -> str:
        """What it is called for people."""
        return label_of(self.values, self.seed)

    @property
    def finished(self) -> bool:
        """Whether all of its rounds are done."""
        return Run(self.folder).finished

    @property
    def config(self) -> RunConfig:
        """Its configuration."""
        return Run(self.folder).config


@dataclass(frozen=True)
class Sweep:
    """A sweep that has begun: its folder, its runs, and the CPUs and GPUs that each is given."""

    folder: Path
    entries: Sequence[Entry]
    cpus: float
    gpus: float


def begin(trials: Sequence[Trial], cpus: float, gpus: float) -> Sweep:
    """Make the folder of a sweep, below ``output``, with a folder for each run and its configuration in it.

    Runs of a sweep are one group of their tracker, unless the settings name another.

    Raises:
        StrataError: when the folders cannot be made.
    """
    first = trials[0].config
    stamp = time.strftime("%Y%m%d-%H%M%S")
    folder = fresh_folder(Path(first.output).expanduser() / f"sweep-{short_name(first.algorithm)}-{stamp}").resolve()
    entries = []
    try:
        for trial in trials:
            place = folder / trial.name
            place.mkdir()
            tracking = trial.config.tracking
            tracking = replace(tracking, group=tracking.group or folder.name)
            write_config(replace(trial.config, output=str(folder), tracking=tracking), place)
            entries.append(Entry(place, trial.values, trial.config.seed))
        sweep = Sweep(folder, entries, cpus, gpus)
        (folder / LEDGER).write_text(json.dumps(_plain(sweep), indent=1), encoding="utf8")
    except OSError as error:
        raise StrataError(f"output={first.output}: the folders of the runs cannot be made: {error}.") from None
    return sweep


def reopen(folder: Path) -> Sweep:
    """A sweep that was begun.

    Raises:
        CheckpointError: when there is none in that folder.
    """
    path = folder / LEDGER
    try:
        plain = json.loads(path.read_text(encoding="utf8"))
        entries = [Entry((folder / one["folder"]).resolve(), one["values"], one["seed"]) for one in plain["runs"]]
        return Sweep(folder.resolve(), entries, plain["cpus"], plain["gpus"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{folder}: expected the folder of a sweep, with {LEDGER} in it: {type(error).__name__}: {error}."
        ) from None


def _plain(sweep: Sweep) -> dict[str, Any]:
    runs = [{"folder": one.folder.name, "values": dict(one.values), "seed": one.seed} for one in sweep.entries]
    return {"cpus": sweep.cpus, "gpus": sweep.gpus, "runs": runs}
