"""Decisions: what agents are asked each round, in gymnasium spaces and numpy. Free of any RL library.

A method that wants decisions made names its :class:`Control`: which agents there are, who decides after whom, what
each sees, what its actions mean to the clients, and how it is paid. Environments (:mod:`envs`) are written against this
class alone, and so are the agents.

# k clients invited to a round, F features of one client
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box
from numpy.typing import NDArray

from engine.algorithm import Algorithm, Assignment, ClientInfo

AgentId = str
COMMON = "__common__"
"""RLlib's key in infos for what concerns no single agent."""

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class AgentSpec:
    """One agent: what it sees, what it does, how it learns.

    Attributes:
        observation_space: a Box. Of shape ``(k, F)`` it has one row per client, and column 0 is 1 for a client that is
            there and 0 for padding, where fewer than k could be invited.
        action_space: MultiDiscrete with the same m choices for each of k clients, ``[n_1 … n_m] * k``; or a Box of
            m numbers for each of k clients, e.g. of shape ``(k,)``.
        learner: ``ppo``; ``reinforce``, one-step policy gradient over free logits; ``vdn``, value decomposition.
        lr: step size that suits it, where the configuration names none.
    """

    observation_space: Space[Any]
    action_space: Space[Any]
    learner: Literal["ppo", "reinforce", "vdn"] = "ppo"
    lr: float = 1e-3


@dataclass(frozen=True)
class Cost:
    """What one client call costs, known before it is made: bytes both ways and FLOPs."""

    bytes_down: int
    bytes_up: int
    flops: int


class Costs(Protocol):
    """Cost of any call, counted without training; see :class:`engine.costs.CallCosts`."""

    def call(self, client: int, assignment: Assignment) -> Cost:
        """Of a client's call under an assignment (on top of the method's default)."""

    def probe(self, client: int) -> Cost:
        """Of its probe."""


@dataclass(frozen=True)
class Decisions:
    """What the agents of a round decided: who takes part and what each is told, and what the server itself does."""

    clients: Mapping[int, Assignment]
    server: Assignment = field(default_factory=dict)


@dataclass(frozen=True)
class Situation:
    """What the global server knows when a round begins; arrays have one entry per invited client.

    Attributes:
        round: 1 for the first.
        clients: ids, ascending, ``(k,)``.
        latency_s, s_per_flop, s_per_byte_down, s_per_byte_up: as last measured, ``(k,)``; NaN where never.
        metrics: what clients last reported, by name, ``(k,)`` each; NaN where never.
        accuracy: of the last evaluated round, None before the first.
        everyone: ``metrics`` of all N clients of the federation, ``(N,)`` each, by client id.
    """

    round: int
    clients: Sequence[int]
    latency_s: FloatArray
    s_per_flop: FloatArray
    s_per_byte_down: FloatArray
    s_per_byte_up: FloatArray
    metrics: Mapping[str, FloatArray] = field(default_factory=dict)
    accuracy: float | None = None
    everyone: Mapping[str, FloatArray] = field(default_factory=dict)

    def seconds(self, costs: Sequence[Cost]) -> FloatArray:
        """Expected seconds of each invited client for calls of these costs, ``(k,)``."""
        table = np.array([(c.bytes_down, c.flops, c.bytes_up) for c in costs], np.float64).reshape(-1, 3)
        down, compute, up = (table * np.stack([self.s_per_byte_down, self.s_per_flop, self.s_per_byte_up], 1)).T
        return np.asarray(self.latency_s + down + compute + up)


@dataclass(frozen=True)
class Report:
    """What came of a round, for rewards; arrays have one entry per client call, in order of client.

    Attributes:
        clients: ids ``(n,)``; a tiered method calls a client several times.
        completed: whether the upload counted; lost: whether the client was lost on the way. Neither: it was late.
        latency_s, download_s, compute_s, upload_s: virtual seconds.
        bytes_down, bytes_up, flops: what was moved and computed.
        metrics: what clients reported, by name; NaN where a call reported no such thing.
        round_s: virtual seconds of the round; straggling_s: max − min over its participants.
        accuracy: of this round, None where it was not evaluated (always so in the timing fidelity).
        gain: accuracy minus that of the last evaluated round, 0 where unknown.
    """

    clients: NDArray[np.int64]
    completed: NDArray[np.bool_]
    lost: NDArray[np.bool_]
    latency_s: FloatArray
    download_s: FloatArray
    compute_s: FloatArray
    upload_s: FloatArray
    bytes_down: FloatArray
    bytes_up: FloatArray
    flops: FloatArray
    round_s: float
    straggling_s: float
    metrics: Mapping[str, FloatArray] = field(default_factory=dict)
    accuracy: float | None = None
    gain: float = 0.0

    @property
    def total_s(self) -> FloatArray:
        """Virtual seconds of each call."""
        return self.latency_s + self.download_s + self.compute_s + self.upload_s


Actions = Mapping[AgentId, Any]
Observation = NDArray[np.float32]


class Control(ABC):
    """The decisions of one method; see the module's docstring.

    A control is stateless between rounds: everything it uses is in the :class:`Situation`, so it can be asked again.

    Attributes:
        agents: by id. Several agents may learn; which of them act in a round is up to :meth:`stages`.
        layouts: names of the ways to divide the decisions among agents; the first is the default.
        heuristics: names that :meth:`suggest` knows.
        enumerating: those of them that try every possibility, and are for small cohorts only.
        probes: whether clients that were never measured are probed before the round's first decision.
    """

    layouts: ClassVar[tuple[str, ...]] = ("default",)
    heuristics: ClassVar[tuple[str, ...]] = ("random",)
    enumerating: ClassVar[tuple[str, ...]] = ()
    probes: ClassVar[bool] = False
    agents: Mapping[AgentId, AgentSpec]

    def __init__(
        self,
        method: Algorithm[Any, Any, Any, Any],
        infos: Sequence[ClientInfo],
        costs: Costs,
        cohort: int,
        layout: str = "",
    ) -> None:
        """Keep what decisions rest on.

        Args:
            method: whose decisions these are.
            infos: of all clients, by id.
            costs: of any call.
            cohort: k, the largest number of clients in a round; sets the sizes of the spaces.
            layout: one of ``layouts``; empty: the first.
        """
        self.method, self.infos, self.costs, self.cohort = method, infos, costs, cohort
        self.layout = layout or self.layouts[0]
        self.agents = self.make_agents()

    @abstractmethod
    def make_agents(self) -> Mapping[AgentId, AgentSpec]:
        """The agents of the chosen layout, by id; whatever else follows from the method's settings is set here too."""

    @abstractmethod
    def stages(self, situation: Situation) -> Sequence[Sequence[AgentId]]:
        """Who decides, in what order: agents of one stage act side by side and see what earlier ones chose."""

    @abstractmethod
    def observe(self, agent: AgentId, situation: Situation, chosen: Actions) -> Observation:
        """What an agent sees before it acts."""

    @abstractmethod
    def decide(self, situation: Situation, chosen: Actions) -> Decisions:
        """Actions of all stages → what clients and server are told."""

    @abstractmethod
    def rewards(self, situation: Situation, chosen: Actions, report: Report) -> Mapping[AgentId, float]:
        """What everyone who acted is paid; a virtual agent that is left out does not learn from the round."""

    def probe_s(self, situation: Situation) -> FloatArray:
        """Seconds of computing that the method's probe takes each invited client, as last measured, ``(k,)``."""
        flops = np.array([self.costs.probe(client).flops for client in situation.clients], np.float64)
        return flops * situation.s_per_flop

    def describe(self, situation: Situation, chosen: Actions) -> Mapping[str, float]:
        """Numbers of a round's decisions that are worth a curve, e.g. mean epochs."""
        return {}

    def suggest(
        self, heuristic: str, agent: AgentId, situation: Situation, chosen: Actions, draws: np.random.Generator
    ) -> Any:
        """The action a named rule would take; ``random`` draws uniformly from the action space."""
        space = self.agents[agent].action_space
        space.seed(int(draws.integers(2**31)))
        return space.sample()


def relative(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Values ≥ 0 ``(k,)`` against their mean, as two features: the ratio minus 1, and its logarithm.

    Where all are 0 they are equal; one that is 0 beside others counts as a millionth of their mean.
    """
    mean = values.mean()
    ratio = values / mean if mean > 0 else np.ones(len(values))
    return ratio - 1, np.log(np.maximum(ratio, 1e-6))


def rows_space(k: int, features: int) -> Box:
    """The space of :func:`pad_rows`: k rows of ``features`` numbers, the first of which says who is there."""
    return Box(-8.0, 8.0, (k, features), np.float32)


def pad_rows(columns: Sequence[FloatArray], k: int) -> Observation:
    """Features ``(n,)`` each as an observation ``(k, 1 + F)``: column 0 is 1 for the n clients there, rows beyond 0."""
    rows = np.zeros((k, 1 + len(columns)), np.float32)
    there = len(columns[0])
    rows[:there, 0] = 1.0
    rows[:there, 1:] = np.minimum(np.maximum(np.array(columns).T, -8.0), 8.0)
    return rows


class Rounds(Protocol):
    """What drives federated rounds for an environment: a federation that trains, or its timing model."""

    @property
    def round(self) -> int:
        """Rounds done."""

    def invite(self) -> list[int]:
        """Who is invited to the next round; asking again gives the same."""

    def probe(self, clients: Sequence[int]) -> Report:
        """Measure clients before the next round, which becomes longer by it."""

    def play(self, decisions: Decisions | None) -> Report:
        """The next round; None leaves everything to the method's defaults."""
