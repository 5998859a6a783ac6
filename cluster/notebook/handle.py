"""A run's folder as an object for notebooks and scripts: its rounds as tables, its models as torch modules."""

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from strata.cluster.humanise import humanise_measure
from strata.cluster.report.frame import read_rounds
from strata.cluster.run.recall import OUTLINE, recalled
from strata.cluster.run.stopping import Rule, Stopping
from strata.cluster.run.summary import RunSummary
from strata.cluster.sinks.by_client import FOLDER, read_calls, read_scores
from strata.cluster.sinks.jsonl import CONFIG, METRICS, read_records
from strata.cluster.sinks.sink import CHECKPOINTS
from strata.cluster.sinks.views import ordered_kinds
from strata.engine import served
from strata.engine.build import build_world
from strata.engine.config.given import NOTHING, Given, taken
from strata.engine.config.load import config_from_dict
from strata.engine.config.schema import RunConfig
from strata.engine.config.written import read_yaml
from strata.engine.errors import CheckpointError, ConfigError, StrataError
from strata.engine.evaluation.measures import measure_of
from strata.engine.identity import identity
from strata.engine.rounds.world import World
from strata.engine.served import Served
from strata.engine.state import checkpoint
from strata.engine.state.archive import ArchivedStates
from strata.engine.state.series import Series
from strata.engine.state.snapshot import Saved, Snapshot
from strata.engine.state.types import state_types


class Run:
    """A run of one seed, finished or not, as its folder holds it: whatever is asked for is read there, now.

    Attributes:
        run_dir: the folder.
    """

    def __init__(self, run_dir: Path, given: Given = NOTHING, rule: Rule | None = None) -> None:
        """Read nothing yet; ``given``: objects of Python that the run is made of; ``rule``: what may have ended it.

        Raises:
            StrataError: where no run has begun there.
        """
        self.run_dir, self._given, self._rule = run_dir, given, rule
        self._loaded: tuple[Path, Saved, ArchivedStates] | None = None
        if not (run_dir / CONFIG).is_file():
            raise StrataError(f"{run_dir}: expected the folder of a run; {CONFIG} is missing.")

    @property
    def config(self) -> RunConfig:
        """The resolved configuration.

        Raises:
            ConfigError: when it does not fit this version of Strata.
        """
        return config_from_dict(read_yaml(self.run_dir / CONFIG), str(self.run_dir / CONFIG))

    @property
    def history(self) -> pd.DataFrame:
        """Every round so far, a row each, by its number: clock, calls, bytes, FLOPs, losses, accuracies, metrics.

        Columns are those of :mod:`strata.cluster.report.frame`, e.g. ``PM.accuracy``; NaN where a round has none.

        Raises:
            StrataError: when the rounds cannot be read.
        """
        path = self.run_dir / METRICS
        try:
            return read_rounds(path) if path.exists() else pd.DataFrame().rename_axis("round")
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise StrataError(f"{path}: not the rounds of a run: {error}.") from None

    @property
    def client_history(self) -> pd.DataFrame:
        """Accuracy (0..1) of every client in every evaluated round: ``round``, ``client``, a column a kind of model."""
        return self._of_clients(read_scores)

    @property
    def client_calls(self) -> pd.DataFrame:
        """Every call of a client, a row each: round, client, team, seconds, bytes, FLOPs, status, ``metrics.NAME``."""
        return self._of_clients(read_calls)

    def _of_clients(self, read: Any) -> pd.DataFrame:
        if not (self.run_dir / FOLDER).is_dir():
            raise StrataError(f"{self.run_dir / FOLDER} is missing: the tables of this run's clients are not there.")
        frame: pd.DataFrame = read(self.run_dir).to_pandas()
        return frame

    @property
    def summary(self) -> dict[str, Any]:
        """What the run has come to: best and last headlines by kind of model, virtual seconds, bytes, FLOPs."""
        return self._summary.plain()

    @property
    def _summary(self) -> RunSummary:
        made = RunSummary(self.run_dir, stopping=Stopping(self.config.stop, self._rule))
        if (self.run_dir / METRICS).exists():
            for record in read_records(self.run_dir):
                made.add(record)
        return made

    @property
    def rounds(self) -> int:
        """How many rounds are done."""
        return self._summary.rounds

    @property
    def finished(self) -> bool:
        """Whether all rounds are done, or it was stopped; else ``strata.run(resume=run.run_dir)`` goes on."""
        made = self._summary
        return bool(made.stopped) or made.rounds >= self.config.rounds

    def global_model(self) -> nn.Module:
        """The global model (GM) of the last checkpoint, in evaluation mode.

        Raises:
            StrataError: where the method has none, or there is no checkpoint.
        """
        return self.served_global().module()

    def team_model(self, team: int) -> nn.Module:
        """The model (TM) of a team, by its id, of the last checkpoint; in evaluation mode.

        Raises:
            StrataError: where the method has no teams, the team no model, or there is no checkpoint.
        """
        return self.served_team(team).module()

    def client_model(self, client: int) -> nn.Module:
        """The personal model (PM) of a client, by its id, as it was evaluated at the last checkpoint.

        Raises:
            StrataError: where the method has no personal models, there is no such client, or no checkpoint.
        """
        return self.served_client(client).module()

    def served_global(self) -> Served:
        """Architecture and values of :meth:`global_model`; raises as it does."""
        return served.global_model(self.world, self._snapshot(0))

    def served_team(self, team: int) -> Served:
        """Architecture and values of :meth:`team_model`; raises as it does."""
        snapshot = self._snapshot()
        members = (snapshot.topology or self.world.data.teams).get(team, ())
        return served.team_model(self.world, self._snapshot(*members[:1]), team)

    def served_client(self, client: int) -> Served:
        """Architecture and values of :meth:`client_model`; raises as it does."""
        return served.client_model(self.world, self._snapshot(client), client)

    @cached_property
    def world(self) -> World:
        """The data, and who holds them, built anew from the configuration.

        Of data that were given in Python, and are not given again, there are shapes and classes, and no inputs.

        Raises:
            StrataError: when the data cannot be had any more.
        """
        given = self._given
        if not given.any and (self.run_dir / OUTLINE).is_file():
            given = recalled(self.run_dir)
        return build_world(self.config, given)

    @property
    def checkpoint(self) -> Path:
        """The folder of the last checkpoint.

        Raises:
            CheckpointError: where there is none.
        """
        saved = checkpoint.found(self.run_dir / CHECKPOINTS)
        if not saved:
            raise CheckpointError(
                f"{self.run_dir}: there is no checkpoint, so there are no models. Expected checkpoint.every or "
                "checkpoint.every_s > 0 in its configuration, and a round that was saved."
            )
        return saved[-1]

    def _snapshot(self, *clients: int) -> Snapshot:
        """All state at the last checkpoint, with those of the clients' states that are asked for."""
        path = self.checkpoint
        if self._loaded is None or self._loaded[0] != path:
            series = Series(state_types(self.world.algorithm))
            self._loaded = (path, *series.load(path, identity(self.config, self.world)))
        _, saved, states = self._loaded
        return replace(saved.snapshot, clients=states.some(clients))

    def __repr__(self) -> str:
        made = self._summary
        last = "".join(
            f", {kind} {humanise_measure(measure_of(made.headline), made.last[kind])}"
            for kind in ordered_kinds(made.last)
        )
        return (
            f"Run({self.config.algorithm}, seed {self.config.seed}, {made.rounds} of {self.config.rounds} rounds"
            f"{last}, {self.run_dir})"
        )


def load_run(run_dir: str | Path, **given: Any) -> Run:
    """Open the folder of a run, whether it is finished or not.

    What the run was given in Python may be given again, the same objects: ``data=``, ``partition=``, ``delays=``,
    ``schedule=``. Models can be had without, but for those that are trained on data, or chosen by them, before they are
    evaluated.

    Raises:
        StrataError: where no run has begun there.
    """
    if unknown := sorted(set(given) - {"data", "partition", "delays", "schedule"}):
        raise ConfigError(
            f"load_run: {unknown[0]} is no object of a run. Expected data, partition, delays or schedule."
        )
    return Run(Path(run_dir).expanduser(), taken(given)[1])
