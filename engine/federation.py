"""A federation from its configuration: what a notebook uses, and what the command line is made of.

Example::

    import strata

    with strata.Federation.from_config("permfl", ["rounds=5", "runtime=inprocess"]) as federation:
        for record in federation:
            print(record.round, record.scores["PM"].accuracy)
"""

import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any

from torch import nn

from strata.engine import served
from strata.engine.build import build_world
from strata.engine.clock.delays import is_due
from strata.engine.config.foreword import foreword
from strata.engine.config.given import NOTHING, Given, Source, load_given
from strata.engine.config.load import Settings
from strata.engine.config.schema import RunConfig
from strata.engine.errors import ResourceError, SlowStartError, StrataError, StrataWarning
from strata.engine.identity import identity
from strata.engine.method.calls import CallTable
from strata.engine.method.situation import Decisions
from strata.engine.notify import Notify, Step
from strata.engine.rounds.records import Outcome, RoundRecord
from strata.engine.rounds.scores import Scoring, chain, record, score_all
from strata.engine.rounds.server import Rounds
from strata.engine.rounds.world import World
from strata.engine.runtime.inprocess import InProcess, Runtime
from strata.engine.runtime.seats import resources
from strata.engine.state.series import Series
from strata.engine.state.snapshot import Saved
from strata.engine.state.types import state_types
from strata.engine.stopwatch import EVALUATION, TRACKING, Seconds, Stopwatch
from strata.engine.training.device import give_freed_memory_back, resolve_device
from strata.engine.tree import fingerprint


class Federation:
    """One run. Iterate it for its rounds; use it as a context manager, or call :meth:`close`."""

    def __init__(self, config: RunConfig, notify: Notify = lambda text: None, given: Given = NOTHING) -> None:
        """Load and partition the data, check the resources, start the tiers.

        Args:
            config: of one seed.
            notify: called with lines about what is being done, for people.
            given: objects of Python that the run is made of.

        Raises:
            StrataError: when the data, the model or the resources do not allow the run; nothing is left behind.
        """
        self.config = config
        notify(Step(f"reading {config.data.name}, and dealing it to {config.clients.count} clients"))
        began = perf_counter()
        self.world = build_world(config, given)
        data_s = perf_counter() - began
        self.round = 0
        self.virtual_s = 0.0
        self._digest = ""
        self._notify = notify
        self.singly: Counter[str] = Counter()
        self._told = 0  # the last round whose requests are counted there
        self._checkpoints = Series(state_types(self.world.algorithm))
        dataset = self.world.data.dataset
        asked = config.evaluation
        self._scoring = Scoring(
            frozenset(self.world.unseen), asked.metrics, dataset.classes, dataset.task, headline=asked.headline
        )
        for line in foreword(config, self.world):
            notify(line)
        self.runtime = self._kept(_start(config, self.world, notify))
        give_freed_memory_back()  # lists of a million clients may have been made to seat them
        self.rounds: Rounds = self.runtime.rounds
        self.started: Seconds = {"loading data": data_s, **self.runtime.started}
        self._before = Stopwatch()  # invitations and probes, which belong to the round to come
        self._ahead_s: float | None = None  # when the next round began that is under way already, by the wall clock

    @classmethod
    def from_config(
        cls,
        source: Source,
        overrides: Sequence[str] | Settings = (),
        notify: Notify = lambda text: None,
        **settings: Any,
    ) -> "Federation":
        """From a method's name or a YAML file, with ``key=value`` overrides as on the command line, or values by key.

        More settings may be given as keyword arguments, and objects among them: a class for a method, ``data=``,
        ``partition=``, ``delays=``, ``model=``, as for ``strata.run``.

        A federation alone follows the method's own defaults; a :class:`StrataWarning` says so where the configuration
        wants agents.

        Raises:
            StrataError: when the configuration is wrong, or the data, the model or the resources do not allow the run.
        """
        config, given = load_given(source, overrides, settings)
        if config.agents.policy != "none":
            warnings.warn(
                f"agents.policy={config.agents.policy} has no effect here: a Federation has no agents, and follows the "
                "method's defaults. strata.cluster.run.session.Session has both; agents.policy=none silences this.",
                StrataWarning,
                stacklevel=2,
            )
        return cls(config, notify, given)

    def __iter__(self) -> Iterator[RoundRecord]:
        """The rounds that are left, each run as it is asked for."""
        while self.round < self.config.rounds:
            yield self.run_round()

    def invite(self) -> list[int]:
        """Who is invited to the next round, by client id; asking again gives the same."""
        with self._before:
            return self.rounds.invite()

    def probe(self, clients: Sequence[int]) -> CallTable:
        """Assess the speed of clients by the method's probe; the next round becomes longer by the slowest of them."""
        with self._before:
            return self.rounds.probe(clients)

    @property
    def is_under_way(self) -> bool:
        """Whether the next round goes on already."""
        return self._ahead_s is not None

    def run_round(self, decisions: Decisions | None = None, ahead: bool = False) -> RoundRecord:
        """One global round, evaluated if its turn has come; without decisions the method's defaults hold.

        Args:
            decisions: for this round.
            ahead: the next one follows whatever comes of this, by the method's defaults, and nothing is asked before it
                is run: where the tiers are actors they go on with it at once (:attr:`is_under_way`), while this one is
                scored and whatever the caller makes of it.

        Raises:
            StrataError: what broke it, e.g. a loss that is not finite, or an actor that died.
        """
        if decisions is not None and self.is_under_way:
            raise StrataError(
                f"round {self.round + 1} is under way without decisions: run_round(ahead=True) was called before it. "
                "Leave that away where something is decided for the next round."
            )
        under_way_s, self._ahead_s = self._ahead_s, None
        began = perf_counter() if under_way_s is None else under_way_s
        ahead = ahead and self._goes_ahead(decisions, under_way_s is not None)
        outcome = self.rounds.run_round(decisions)
        ended = perf_counter()
        due = self._is_due(outcome)
        self.round, self.virtual_s = outcome.round, outcome.virtual_s
        if self.round > self._told:  # else it is made again, after something was lost
            self._told = self.round
            self._tell_singly(outcome.singly)
        found = self.rounds.evaluate() if due else {}
        answered = perf_counter()
        self._ahead_s = answered if ahead else None
        scores = score_all(found, self._scoring) if due else {}
        scored = answered if ahead else perf_counter()  # what is done beside the next round takes no time of its own
        if due and self.world.privacy is not None:
            outcome = replace(outcome, metrics={**outcome.metrics, **self.world.privacy.metrics(self.round)})
        made = record(self.round, self.virtual_s, outcome, scores, scored - began)
        self._digest = chain(self._digest, made)
        parts = outcome.spent.split(self._before.take() + ended - began)
        beyond_s = 0.0 if ahead else perf_counter() - scored
        return replace(made, seconds={**parts, EVALUATION: scored - ended, TRACKING: beyond_s})

    def _goes_ahead(self, decisions: Decisions | None, is_under_way: bool) -> bool:
        """Hand over this round, its evaluation and the next one, before any of them is awaited; False: it cannot be."""
        hand_over, round = self.runtime.hand_over, self.round + 1
        by_clock = self.config.evaluation.every_s or self.config.stop.virtual_s  # which does not say yet what is due
        if hand_over is None or by_clock or round >= self.config.rounds:
            return False
        if not is_under_way:
            hand_over("run_round", decisions)
        if self._is_due_by_number(round):
            hand_over("evaluate")
        hand_over("run_round")
        return True

    def _is_due(self, outcome: Outcome) -> bool:
        """Whether models are evaluated after a round that has just been made."""
        last = self.config.stop.is_over(outcome.virtual_s)
        by_clock = is_due(self.config.evaluation.every_s, self.virtual_s, outcome.virtual_s)
        return last or by_clock or self._is_due_by_number(outcome.round)

    def _is_due_by_number(self, round: int) -> bool:
        every = self.config.evaluation.every
        return round == self.config.rounds or bool(every and round % every == 0)

    def _tell_singly(self, singly: Mapping[str, int]) -> None:
        """Count requests that were answered one by one, and say why when a reason is new."""
        for reason in singly.keys() - self.singly.keys():
            self._notify(f"training.batch_clients: some requests are answered client by client: {reason}")
        self.singly.update(singly)

    def global_model(self) -> nn.Module:
        """The global model (GM) as it is now, a copy in evaluation mode.

        Raises:
            StrataError: where the method has none.
        """
        return served.global_model(self.world, self.rounds.snapshot()).module()

    def team_model(self, team: int) -> nn.Module:
        """The model (TM) of a team, by its id, as it is now; a copy in evaluation mode.

        Raises:
            StrataError: where the method has no teams, or this one has no model yet.
        """
        return served.team_model(self.world, self.rounds.snapshot(), team).module()

    def client_model(self, client: int) -> nn.Module:
        """The personal model (PM) of a client, by its id, as it is evaluated now; a copy in evaluation mode.

        Raises:
            StrataError: where the method has no personal models, or there is no such client.
        """
        return served.client_model(self.world, self.rounds.snapshot(), client).module()

    def fingerprint(self) -> dict[str, str]:
        """SHA-256 of all models and states, of the clock, and of all metrics so far; equal runs have equal ones."""
        snapshot = self.rounds.snapshot()
        return {
            "models": fingerprint((snapshot.server, snapshot.team_states, snapshot.clients)),
            "clock": fingerprint((snapshot.round, snapshot.virtual_s)),
            "metrics": self._digest,
        }

    def save(self, folder: Path, beside: object = None) -> Path:
        """Write a checkpoint of the state as it is now, between two rounds; returns its path.

        ``beside``: a tree of tensors, numbers and text to be kept with it.

        Raises:
            StateError: when the method's states are of classes that could not be restored.
            CheckpointError: when it cannot be written.
        """
        return self._checkpoints.save(
            folder,
            self.rounds.snapshot,
            lambda snapshot, clients: Saved(snapshot, clients, self._digest, beside),
            identity(self.config, self.world),
            self.config.checkpoint.keep,
        )

    def restore(self, path: Path, accept: Callable[[object], None] = lambda beside: None) -> object:
        """Continue from a checkpoint of the same run; returns the tree that was kept beside it.

        Args:
            path: the checkpoint's folder.
            accept: is given that tree first, and raises where it is not what the caller needs.

        Raises:
            CheckpointError: when it is damaged or of another run. After this and what ``accept`` raises the federation
                is as it was.
        """
        saved, clients = self._checkpoints.load(path, identity(self.config, self.world))
        accept(saved.beside)
        self.rounds.restore(saved.snapshot)
        for states in clients.portions():
            self.rounds.give(states)
        self._checkpoints.went_back_to(path, saved)
        self._before.take()
        self.round, self.virtual_s, self._digest = saved.snapshot.round, saved.snapshot.virtual_s, saved.digest
        return saved.beside

    def restart(self) -> None:
        """Start all tiers anew, on the nodes that are alive now, as they were before the first round.

        Processes that are alive are used again. :meth:`restore` then takes them to a checkpoint.

        Raises:
            StrataError: as the constructor does.
        """
        before = self.runtime
        before.retire()
        try:
            self.runtime = self._kept(_start_again(self.config, self.world, self._notify, before))
        finally:
            before.close()
        self.rounds = self.runtime.rounds
        self._checkpoints = Series(state_types(self.world.algorithm))
        self._ahead_s = None
        self._before.take()
        self.round, self.virtual_s, self._digest = 0, 0.0, ""

    def _kept(self, runtime: Runtime) -> Runtime:
        """A runtime that ends with this federation, also where that is forgotten and was not closed."""
        weakref.finalize(self, runtime.close).atexit = False  # with the process Ray ends by itself
        return runtime

    def close(self) -> None:
        """End the actors, and the local Ray if this run started it."""
        self.runtime.close()

    def __enter__(self) -> "Federation":
        """The federation itself, which has started already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the federation; an error that ended the block goes on."""
        self.close()


def _start(config: RunConfig, world: World, notify: Notify, before: Runtime | None = None) -> Runtime:
    if config.runtime == "inprocess":
        return InProcess(world, resolve_device(config.training.device, config.clients.num_gpus))
    from strata.engine.runtime.ray import RayRuntime, start  # Ray is imported only where it is used

    living = before if isinstance(before, RayRuntime) else None
    return start(config, world, resources(config.clients, world), notify, living)


def _start_again(config: RunConfig, world: World, notify: Notify, before: Runtime) -> Runtime:
    """Start the tiers on what is left of the nodes; with more clients per actor where as few as before do not fit.

    Where they do, and start slowly, it would help nobody to have others, or more of them.
    """
    config = replace(config, ray=replace(config.ray, nodes=0))  # so many need not be left
    try:
        return _start(config, world, notify, before)
    except ResourceError as error:
        if config.clients_per_actor == "auto" or isinstance(error, SlowStartError):
            raise
        notify(f"clients_per_actor={config.clients_per_actor} does not fit what is alive, so auto is tried: {error}")
        return _start(replace(config, clients_per_actor="auto"), world, notify, before)
