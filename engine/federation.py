"""A federation from its configuration: what a notebook uses, and what the command line is made of.

Example::

    from engine.federation import Federation

    with Federation.from_config("permfl", ["rounds=5", "runtime=inprocess"]) as federation:
        for record in federation:
            print(record.round, record.scores["PM"].accuracy)
"""

import hashlib
import json
import time
import warnings
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from engine import checkpoint
from engine.algorithm import Algorithm, TieredAlgorithm
from engine.clients import ClientHost, Evaluations
from engine.config import load_config, to_dict
from engine.control import Decisions
from engine.data.dataset import ClientData, Dataset
from engine.data.federated import build
from engine.delays import client_profiles, server_profile, team_profile
from engine.errors import CheckpointError, ConfigError, StrataWarning
from engine.messages import fingerprint, flatten
from engine.metrics import chain, record, score_all
from engine.models import Buildable, init_params, spec_of
from engine.placement import Share
from engine.records import CallRecord, Notify, RoundRecord
from engine.requests import Request, Sgd, Train, Trained
from engine.schema import ClientsConfig, RunConfig
from engine.seeding import derive
from engine.servers import GlobalServer, LocalTeams, Outcome, Snapshot
from engine.trainer import Trainer, resolve_device
from engine.world import TierPlan, World


class Backend(Protocol):
    """Where the tiers live: in this process, or in actors."""

    def invite(self) -> list[int]:
        """Who is invited to the next round."""

    def probe(self, clients: Sequence[int]) -> list[CallRecord]:
        """Assess the speed of clients before the next round."""

    def run_round(self, decisions: Decisions | None = None) -> Outcome:
        """One global round."""

    def evaluate(self) -> Evaluations:
        """Every model on every client's test data."""

    def snapshot(self) -> Snapshot:
        """All state."""

    def restore(self, snapshot: Snapshot) -> None:
        """Continue from a snapshot."""

    def close(self) -> None:
        """End what was started."""


class InProcess:
    """All tiers in this process, without Ray."""

    def __init__(self, world: World, device: str) -> None:
        """``device`` is torch's name of where to train."""
        clients = ClientHost(world, device)
        teams = LocalTeams(world, clients) if world.data.teams else None
        self._server = GlobalServer(world, clients, teams)
        self.invite = self._server.invite
        self.probe = self._server.probe
        self.run_round = self._server.run_round
        self.evaluate = self._server.evaluate
        self.snapshot = self._server.snapshot
        self.restore = self._server.restore

    def close(self) -> None:
        """Nothing to end."""


@dataclass(frozen=True)
class Saved:
    """What a checkpoint holds: all state, the digest of the metrics so far, and what is kept beside (the agents)."""

    snapshot: Snapshot
    digest: str
    beside: Any = None


class Federation:
    """One run. Iterate it for its rounds; use it as a context manager, or call :meth:`close`."""

    def __init__(self, config: RunConfig, notify: Notify = lambda text: None) -> None:
        """Load and partition the data, check the resources, start the tiers.

        Args:
            config: of one seed.
            notify: called with lines about what is being done, for people.

        Raises:
            StrataError: when the data, the model or the resources do not allow the run; nothing is left behind.
        """
        self.config = config
        self.world = build_world(config)
        self.round = 0
        self.virtual_s = 0.0
        self._digest = ""
        self._backend = _start(config, self.world, notify)

    @classmethod
    def from_config(
        cls, source: str, overrides: Sequence[str] = (), notify: Notify = lambda text: None
    ) -> "Federation":
        """From a method's name or a YAML file, with ``key=value`` overrides as on the command line.

        A federation alone follows the method's own defaults; a :class:`StrataWarning` says so where the configuration
        wants agents.
        """
        config = load_config(source, overrides)
        if config.agents.policy != "none":
            warnings.warn(
                f"agents.policy={config.agents.policy} has no effect here: a Federation has no agents, and follows the "
                "method's defaults. cluster.session.Session has both; agents.policy=none silences this.",
                StrataWarning,
                stacklevel=2,
            )
        return cls(config, notify)

    def __iter__(self) -> Iterator[RoundRecord]:
        """The rounds that are left, each run as it is asked for."""
        while self.round < self.config.rounds:
            yield self.run_round()

    def invite(self) -> list[int]:
        """Who is invited to the next round, by client id; asking again gives the same."""
        return self._backend.invite()

    def probe(self, clients: Sequence[int]) -> list[CallRecord]:
        """Assess the speed of clients by the method's probe; the next round becomes longer by the slowest of them."""
        return self._backend.probe(clients)

    def run_round(self, decisions: Decisions | None = None) -> RoundRecord:
        """One global round, evaluated if its turn has come; without decisions the method's defaults hold."""
        started = time.perf_counter()
        outcome = self._backend.run_round(decisions)
        self.round += 1
        self.virtual_s += outcome.seconds
        last = self.round == self.config.rounds
        due = self.round % self.config.evaluation.every == 0 or last
        scores = score_all(self._backend.evaluate()) if due else {}
        made = record(self.round, self.virtual_s, outcome, scores, time.perf_counter() - started)
        self._digest = chain(self._digest, made)
        return made

    def fingerprint(self) -> dict[str, str]:
        """SHA-256 of all models and states, of the clock, and of all metrics so far."""
        snapshot = self._backend.snapshot()
        return {
            "models": fingerprint((snapshot.server, snapshot.teams, snapshot.clients)),
            "clock": fingerprint((snapshot.round, snapshot.virtual_s)),
            "metrics": self._digest,
        }

    def save(self, folder: Path, beside: Any = None) -> Path:
        """Write a checkpoint of the state as it is now, between two rounds; returns its path.

        ``beside``: a tree of tensors, numbers and text to be kept with it.

        Raises:
            StateError: when the method's states are of classes that could not be restored.
            CheckpointError: when it cannot be written.
        """
        saved, run = Saved(self._backend.snapshot(), self._digest, beside), identity(self.config, self.world)
        return checkpoint.save(
            folder, self.round, saved, run, self.config.checkpoint.keep, state_modules(self.world.algorithm)
        )

    def restore(self, path: Path) -> Any:
        """Continue from a checkpoint; returns what was kept beside it.

        Raises:
            CheckpointError: when it is damaged or of another run; the federation is as it was.
        """
        saved = checkpoint.load(path, identity(self.config, self.world), state_modules(self.world.algorithm))
        if not isinstance(saved, Saved):
            raise CheckpointError(f"{path}: it holds no federation.")
        self._backend.restore(saved.snapshot)
        self.round, self.virtual_s, self._digest = saved.snapshot.round, saved.snapshot.virtual_s, saved.digest
        return saved.beside

    def close(self) -> None:
        """End the actors, and the local Ray if this run started it."""
        self._backend.close()

    def __enter__(self) -> "Federation":
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


def state_modules(method: Algorithm[Any, Any, Any, Any]) -> frozenset[str]:
    """The modules whose dataclasses a checkpoint may hold: those of the method and of its bases, and the engine's."""
    own = {kind.__module__ for kind in type(method).__mro__} - {"abc", "builtins", "typing"}
    return frozenset(own | {__name__, "engine.servers"})


# What decides where and how fast a run is computed, or how far, and never what comes out.
PLACEMENT_KEYS = (
    "output",
    "runtime",
    "clients_per_actor",
    "ray",
    "tracking",
    "checkpoint",
    "rounds",
    "seeds",
    "training",
    "server",
    "clients.num_cpus",
    "clients.num_gpus",
    "clients.classes",
    "teams.num_cpus",
    "teams.num_gpus",
    "delays.mode",
    "delays.sleep_scale",
)


def identity(config: RunConfig, world: World) -> dict[str, str]:
    """What must be equal for one run to continue another's checkpoint: all that enters a result, none of the placement.

    The number of rounds is left out, so that a finished run can be prolonged (an evaluation after its former last round
    stays in its metrics). Data, rows, teams and profiles enter as they are, not as the names of their files.
    """
    plain = to_dict(config)
    for key in PLACEMENT_KEYS:
        *parents, last = key.split(".")
        del (plain[parents[0]] if parents else plain)[last]
    text = json.dumps(plain, sort_keys=True, default=str)
    return {
        "algorithm": config.algorithm,
        "seed": str(config.seed),
        "configuration": hashlib.sha256(text.encode()).hexdigest()[:16],
        "data": world.fingerprint[:16],
    }


def build_world(config: RunConfig) -> World:
    """Data, partition, teams, delays and method of a run; starts nothing.

    Raises:
        StrataError: when they do not fit together.
    """
    kind, seed, clients = config.method_class, config.seed, config.clients.count
    teams = config.teams.count if issubclass(kind, TieredAlgorithm) else 0

    def updates(dataset: Dataset, rows: Sequence[ClientData]) -> NDArray[np.floating[Any]]:
        spec = spec_of(config.model, dataset.input_shape, dataset.classes)
        return first_updates(spec, dataset, rows, seed)

    data = build(config.data, config.partition, config.teams.formation, clients, teams, seed, updates)
    spec = spec_of(config.model, data.dataset.input_shape, data.dataset.classes)
    return World(
        algorithm=kind(config.method, spec),
        data=data,
        profiles=client_profiles(config.delays, clients, seed),
        team_profile=team_profile(config.delays),
        server_profile=server_profile(config.delays),
        clients_plan=_tier_plan(config.clients),
        teams_plan=_tier_plan(config.teams),
        seed=seed,
        evaluation_batch=config.evaluation.batch_size,
        sleep_scale=config.delays.sleep_scale if config.delays.mode == "sleep" else 0.0,
    )


def first_updates(
    spec: Buildable, dataset: Dataset, clients: Sequence[ClientData], seed: int, epochs: int = 1
) -> NDArray[np.floating[Any]]:
    """Each client's change of a common fresh model after an epoch of SGD (lr 0.1, batch 32): ``(C, D)`` float32.

    What ``teams.formation=similarity`` and ``hierarchical`` cluster. Costs no virtual time.
    """
    trainer, start = Trainer(dataset), init_params(spec, derive(seed, "similarity"))
    request = Train(spec, start, Sgd(0.1), 32, epochs=epochs)

    def step() -> Generator[Request, Any, Tensor]:
        trained: Trained = yield request
        return flatten(trained.params) - flatten(start)

    return np.stack(
        [
            trainer.drive(
                step(), rows.train, rows.test, derive(seed, "similarity", client), f"client {client}, team formation"
            )[0].numpy()
            for client, rows in enumerate(clients)
        ]
    )


def resources(config: ClientsConfig, world: World) -> dict[int, Share]:
    """What each client's actor is given, by client id: its device class's share, or the tier's.

    Raises:
        ConfigError: when resources are given for a class that no client has.
    """
    present = {profile.device for profile in world.profiles}
    for name in config.classes:
        if name not in present:
            raise ConfigError(
                f"clients.classes.{name}: no client is of that class. Present: {', '.join(sorted(present))}."
            )
    default = Share(config.num_cpus, config.num_gpus)
    by_class = {name: Share(part.num_cpus, part.num_gpus) for name, part in config.classes.items()}
    return {client: by_class.get(profile.device, default) for client, profile in enumerate(world.profiles)}


def for_seed(config: RunConfig, seed: int) -> RunConfig:
    """The same run with one seed."""
    return replace(config, seed=seed, seeds=[])


def _tier_plan(config: Any) -> TierPlan:
    return TierPlan(config.mode, config.deadline_s, config.participation)


def _start(config: RunConfig, world: World, notify: Notify) -> Backend:
    if config.runtime == "inprocess":
        return InProcess(world, resolve_device(config.training.device, config.clients.num_gpus))
    from engine.ray_backend import start  # Ray is imported only where it is used

    return start(config, world, resources(config.clients, world), notify)
