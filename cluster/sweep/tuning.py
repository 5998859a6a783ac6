"""The runs of a sweep as trials of Ray Tune: as many side by side as there is room for, each in what it was given.

A trial is a placement group, which its run's actors stay in (:mod:`strata.engine.runtime.bundles`). Of Tune's own files
none is read again: a sweep that was interrupted goes on from the checkpoints of its runs.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray import tune
from rich.console import Console

from strata.cluster.run.runner import resume
from strata.cluster.sinks.display import display_for
from strata.cluster.sweep.ledger import Entry, Sweep
from strata.cluster.terminal import WIDTH
from strata.engine.config.schema import RunConfig
from strata.engine.errors import ResourceError, StrataError
from strata.engine.notify import Notify
from strata.engine.runtime.bundles import nodes
from strata.engine.runtime.ray import connect, packages_of

LOG = "log.txt"
"""What a run of a sweep would have shown, in its folder."""

SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # a run has files of its own
    "RAY_AIR_NEW_OUTPUT": "0",  # which prints tables whatever it is told; the old one can be silent
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the sweep; its runs have their checkpoints
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # files that settings name lie where the sweep was begun
}
FOLDER, FAILURE = "folder", "failure"


class Progress(tune.Callback):
    """Says which runs have begun, ended and failed."""

    def __init__(self, entries: Sequence[Entry], notify: Notify) -> None:
        """``entries``: the runs that are made; ``notify`` is told a line about each."""
        self._labels, self._notify = {str(one.folder): one.label for one in entries}, notify
        self._over = 0

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: object) -> None:
        """Say that a run has begun."""
        self._notify(f"begun   {self._labels[trial.config[FOLDER]]}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: object) -> None:
        """Say that a run is done, or was ended by an error of its own, and how many have ended."""
        self._ended("failed " if FAILURE in trial.last_result else "done   ", trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: object) -> None:
        """Say that a run's process has failed, and how many have ended."""
        self._ended("failed ", trial)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its callbacks into a file that is not read here, and a terminal cannot be."""
        return {}

    def _ended(self, how: str, trial: Any) -> None:
        self._over += 1
        self._notify(f"{how} {self._labels[trial.config[FOLDER]]} ({self._over} of {len(self._labels)})")


def play(sweep: Sweep, notify: Notify) -> dict[str, str]:
    """Make the runs of a sweep that are not finished; returns why runs failed, by their labels.

    Raises:
        ClusterError: when Ray cannot be reached or started.
        ResourceError: when not even one run has room.
    """
    left = {str(one.folder): one for one in sweep.entries if not one.finished}
    if not left:
        return {}
    config = next(iter(left.values())).config
    os.environ.update(SETTINGS)
    owns = connect(config.ray, packages_of(config), notify)
    try:
        _require_room(sweep)
        tuner = tune.Tuner(
            tune.with_resources(_run, _bundles(sweep, config)),
            param_space={FOLDER: tune.grid_search(list(left))},
            tune_config=tune.TuneConfig(reuse_actors=True),  # a process takes seconds to start
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(sweep.folder),
                verbose=0,
                callbacks=[Progress(list(left.values()), notify)],
            ),
        )
        results = tuner.fit()
    finally:
        if owns:
            ray.shutdown()
    reasons = {(one.config or {})[FOLDER]: _reason(one) for one in map(results.__getitem__, range(len(results)))}
    return {left[folder].label: reason for folder, reason in reasons.items() if reason}


def _run(parameters: Mapping[str, str]) -> dict[str, object]:
    """One run of a sweep, in the process of its trial: from its beginning, or from its last checkpoint."""
    folder = Path(parameters[FOLDER])
    with (folder / LOG).open("a", encoding="utf8") as log:
        display = display_for(Console(file=log, emoji=False, width=WIDTH))
        try:
            return {"rounds": resume(folder, {}, display).rounds}
        except StrataError as error:
            display.message(f"error: {error}")
            return {FAILURE: str(error)}


def _bundles(sweep: Sweep, config: RunConfig) -> tune.PlacementGroupFactory:
    """What a run is given: for its actors, or, where there are none, for the process of the trial itself."""
    whole = {"CPU": sweep.cpus, "GPU": sweep.gpus}
    return tune.PlacementGroupFactory([whole] if config.runtime == "inprocess" else [{}, whole])


def _require_room(sweep: Sweep) -> None:
    there = nodes()
    if not any(node.cpus >= sweep.cpus and node.gpus >= sweep.gpus for node in there):
        has = ", ".join(f"{node.cpus:g} CPU and {node.gpus:g} GPU" for node in there)
        raise ResourceError(
            f"a run of the sweep is given {sweep.cpus:g} CPU and {sweep.gpus:g} GPU, which no node has: {has}. Lower "
            "--cpus or --gpus."
        )


def _reason(ended: tune.Result) -> str:
    """Why a run failed: its own error, or the last line of what ended its process; empty for one that is done."""
    if ended.error:
        return str(ended.error).strip().splitlines()[-1]
    return str((ended.metrics or {}).get(FAILURE, ""))
