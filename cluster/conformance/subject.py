"""The method that is checked, in a federation small enough to play a round of it by hand.

A :class:`Subject` holds the method as it is before its first call; each check takes a copy of its own.
"""

import copy
import inspect
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from strata.engine.build import build_world
from strata.engine.config.load import load_config
from strata.engine.config.schema import RunConfig
from strata.engine.determinism import single_thread
from strata.engine.errors import ConfigError, ConformanceError
from strata.engine.federation import Federation
from strata.engine.method.algorithm import FlatAlgorithm, TieredAlgorithm
from strata.engine.method.calls import CallTable
from strata.engine.method.messages import Assignment, ClientResult, ClientStep, Context, Received
from strata.engine.rounds.beside.desk import Desk
from strata.engine.rounds.records import Scores
from strata.engine.rounds.world import Method
from strata.engine.training.conversation import Conversation, drive
from strata.engine.training.sequential import Sequential
from strata.engine.tree import fingerprint

SETTING = (
    "rounds=6",
    "data.limit=600",
    "clients.count=8",
    "clients.participation=1",
    "teams.count=2",
    "teams.participation=1",
    "partition=labels",
    "partition.labels_per_client=2",
    "ray.num_cpus=2",
)
"""In what a method is checked, where nothing else is said: 8 clients, 600 images, 6 rounds."""

FIXED = ("runtime=inprocess", "training.batch_clients=1", "evaluation.every=1")
"""What is not to be said: with runs of this kind others are compared."""

AT = Context(1, 1, 0)
LEAST_ROUNDS = 3
PAIR = 2  # clients of the round that is played by hand

Digests = Mapping[str, str]


@dataclass(frozen=True)
class Played:
    """All that one round of two clients made.

    Attributes:
        g, g_after: the global state before and after.
        owner: the state from which clients are sent something: the team's, or the global one.
        team_down, team_after, team_up: what a team is sent, its state after its step, what it sends; None in a flat
            method.
        told, states, downs, results: by client id: its assignment, its state before its call, what it is sent, and
            what its call ended with.
        prints: of each part by its name, when it had just been made.
    """

    g: Any
    g_after: Any
    owner: Any
    team_down: Any
    team_after: Any
    team_up: Any
    told: Mapping[int, Assignment]
    states: Mapping[int, Any]
    downs: Mapping[int, Any]
    results: Mapping[int, ClientResult[Any, Any]]
    prints: Digests = field(default_factory=dict)

    @property
    def messages(self) -> dict[str, Any]:
        """What crossed the network, by what it is."""
        made = {f"what client {client} is sent": down for client, down in self.downs.items()}
        made |= {f"what client {client} uploads": result.up for client, result in self.results.items()}
        if self.team_down is not None:
            made |= {"what the team is sent": self.team_down, "what the team uploads": self.team_up}
        return made

    @property
    def parts(self) -> dict[str, Any]:
        """Every message and state, by what it is."""
        made = {"the global state": self.g, "the global state after the round": self.g_after}
        if self.team_down is not None:
            made |= {"the team's state": self.owner, "the team's state after its step": self.team_after}
        made |= {f"the state of client {client}": state for client, state in self.states.items()}
        made |= {
            f"the state of client {client} after its call": result.state for client, result in self.results.items()
        }
        return made | self.messages


@dataclass(frozen=True)
class Run:
    """What came of a run, round by round, and why requests were answered one by one.

    Attributes:
        digests: of models, clock and metrics so far.
        states: of the global server, of teams by id, and of clients by id.
        calls: the client calls.
        scores: of the models, by their kind.
        losses: mean training losses, None where nobody trained.
        singly: how many requests were answered one by one though several at once were asked for, by the reason.
    """

    digests: list[Digests]
    states: list[object]
    calls: list[CallTable]
    scores: list[Mapping[str, Scores]]
    losses: list[float | None]
    singly: Mapping[str, int]


class Subject:
    """A method, and what its checks share."""

    def __init__(self, source: str, words: Sequence[str] = ()) -> None:
        """Load a method by its name or a YAML file, in :data:`SETTING` but for the ``key=value`` in ``words``.

        Raises:
            StrataError: where there is no such method, or it does not fit the setting.
        """
        self.source, self._words = source, [*SETTING, *words, *FIXED]
        self.config = load_config(source, self._words)
        if self.config.rounds < LEAST_ROUNDS or self.config.clients.count < PAIR * self._teams:
            raise ConfigError(
                f"rounds={self.config.rounds}, clients.count={self.config.clients.count}: expected {LEAST_ROUNDS} "
                f"rounds or more, and {PAIR} clients in each of {self._teams} teams or more. Leave them as they are."
            )
        self.world = build_world(self.config)
        self._untouched = copy.deepcopy(self.world.algorithm)

    @property
    def _teams(self) -> int:
        return self.config.teams.count if issubclass(self.config.method_class, TieredAlgorithm) else 1

    def fresh(self) -> Method:
        """The method as it is before its first call."""
        return copy.deepcopy(self._untouched)

    @cached_property
    def played(self) -> Played:
        """A round, played with a fresh method."""
        return self.play(self.fresh())

    @property
    def pair(self) -> Sequence[int]:
        """The two clients of the round that is played by hand: those of the first team, where there are teams."""
        return list(next(iter(self.world.data.teams.values()), range(PAIR)))[:PAIR]

    @single_thread()
    def play(self, method: Method) -> Played:
        """Every message and state of one round, made in the order in which a run makes them."""
        assert isinstance(method, FlatAlgorithm | TieredAlgorithm)
        prints: dict[str, str] = {}

        def noted(name: str, made: Any) -> Any:
            prints[name] = fingerprint(made)
            return made

        g = noted("the global state", method.init_global(1))
        owner, team_down, team_after, team_up = g, None, None, None
        if isinstance(method, TieredAlgorithm):
            team, members = next(iter(self.world.data.teams.items()))
            info = self.world.team_info(team, members)
            team_down = noted("what the team is sent", method.to_team(g, info, {}, AT))
            owner = noted("the team's state", method.start_team(team_down, None))
        told, states, downs, results = {}, {}, {}, {}
        for client in self.pair:
            info_of = self.world.infos[client]
            told[client] = method.default_assignment(info_of)
            states[client] = noted(f"the state of client {client}", method.init_client(info_of, 5))
            downs[client] = noted(f"what client {client} is sent", method.to_client(owner, info_of, told[client]))
            results[client] = result = self.call(method, client, states[client], downs[client])
            noted(f"what client {client} uploads", result.up)
            noted(f"the state of client {client} after its call", result.state)
        ups = self.received(told, results)
        if isinstance(method, TieredAlgorithm):
            team_after = noted("the team's state after its step", self.stepped(method.team_step(owner, ups, AT)))
            team_up = noted("what the team uploads", method.to_global(team_after))
            ups = [Received(0, 1, team_up)]
        g_after = noted("the global state after the round", self.stepped(method.global_step(g, ups, AT)))
        return Played(g, g_after, owner, team_down, team_after, team_up, told, states, downs, results, prints)

    def stepped(self, step: object) -> Any:
        """What a server's step ends with; one that computes does so on the rows that servers hold."""
        return Desk(self.world, self.world.server_profile).made(step, 7, "the server")

    def received(
        self, told: Mapping[int, Assignment], results: Mapping[int, ClientResult[Any, Any]]
    ) -> Sequence[Received[Any]]:
        """The uploads of some calls, as their server sees them."""
        infos = self.world.infos
        return [Received(c, infos[c].train_samples, result.up, told[c]) for c, result in results.items()]

    @single_thread()
    def call(self, method: Method, client: int, state: Any, down: Any) -> ClientResult[Any, Any]:
        """A call of a client, one by one.

        Raises:
            ConformanceError: when ``client_step`` is no generator of requests that ends with a ClientResult.
        """
        steps = method.client_step(self.world.infos[client], state, down, Context(1, 1, 7))
        if not inspect.isgenerator(steps):
            raise ConformanceError(
                f"client_step returned a {type(steps).__name__}; expected a generator of requests. Yield at least one, "
                "e.g. trained = yield Train(…)."
            )
        conversation = Conversation(
            cast(ClientStep[Any, Any], steps), self.world.data.clients[client], 7, f"client {client}"
        )
        result, _ = drive(Sequential(self.world.data.dataset), conversation)
        if not isinstance(result, ClientResult):
            raise ConformanceError(
                f"client_step ended with a {type(result).__name__}; expected return ClientResult(up, state)."
            )
        return result

    def configured(self, *words: str) -> RunConfig:
        """The setting of the checks with some changes, as ``key=value``."""
        return load_config(self.source, [*self._words, *words])

    @cached_property
    def whole(self) -> Run:
        """The run with which others are compared."""
        return self.run(self.config.rounds)

    def run(self, rounds: int, config: RunConfig | None = None, restored: Path | None = None) -> Run:
        """The first rounds of a run.

        Args:
            rounds: how many, those before a checkpoint included.
            config: None: that of the checks.
            restored: a checkpoint that it goes on from.
        """
        made = Run([], [], [], [], [], {})
        with Federation(config or self.config) as federation:
            if restored is not None:
                federation.restore(restored)
            while federation.round < rounds:
                record = federation.run_round()
                snapshot = federation.rounds.snapshot()
                made.digests.append(federation.fingerprint())
                made.states.append((snapshot.server, snapshot.team_states, snapshot.clients))
                made.calls.append(record.calls)
                made.scores.append(record.scores)
                made.losses.append(record.train_loss)
            return replace(made, singly=dict(federation.singly))

    def went_on(self, rounds: int) -> Run:
        """The same run, ended after its first round and resumed from a checkpoint."""
        with tempfile.TemporaryDirectory() as folder:
            with Federation(self.config) as federation:
                federation.run_round()
                saved = federation.save(Path(folder))
            return self.run(rounds, restored=saved)

    def together(self, width: int, rounds: int) -> Run:
        """The same run, with up to ``width`` clients trained as one operation."""
        return self.run(rounds, self.configured(f"training.batch_clients={width}"))

    def on_ray(self, rounds: int) -> Run:
        """The same run on a local Ray, its clients in two actors."""
        half = -(-self.config.clients.count // 2)
        return self.run(rounds, self.configured("runtime=ray", f"clients_per_actor={half}"))
