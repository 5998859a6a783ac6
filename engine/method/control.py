"""Decisions: what agents are asked each round, in gymnasium spaces and numpy. Free of any RL library.

A method that wants decisions made names its :class:`Control`: which agents there are, who decides after whom, what
each sees, what its actions mean to the clients, and how it is paid. Environments (:mod:`strata.envs`) are written
against this class alone, and so are the agents.

# k clients invited to a round, F features of one client
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from gymnasium import Space
from numpy.typing import NDArray

from strata.engine.method.calls import FloatArray
from strata.engine.method.messages import ClientInfo
from strata.engine.method.situation import Costs, Decisions, Report, Situation

AgentId = str
COMMON = "__common__"
"""RLlib's key in infos for what concerns no single agent."""

AGENTS = "agents/"
"""What the names of all metrics about decisions begin with."""
REWARD, ENTROPY = "reward", "entropy"
"""Metrics of one agent: what a round paid it; the entropy of its policy, in nats."""


def curve_of(agent: AgentId, metric: str) -> str:
    """The name under which a round has a metric of one agent, e.g. ``agents/intensity/reward``."""
    return f"{AGENTS}{agent}/{metric}"


@dataclass(frozen=True)
class Relative:
    """How agents of the family ``relative`` make advantages of what they are paid, and what they share.

    Attributes:
        calls: an agent's baseline is the mean of its own last so many rewards, and its first one teaches nothing; 0:
            rewards are advantages.
        memory: share of the past in the running mean of squared advantages, over the agents of a round, by whose root
            they are divided, 0..1; 0: they are not divided.
        shared: step size of the logits that all agents share, as a multiple of that of an agent's own; 0: none are.
    """

    calls: int
    memory: float
    shared: float


@dataclass(frozen=True)
class AgentSpec:
    """One agent: what it sees, what it does, how it learns.

    Attributes:
        observation_space: a Box. Of shape ``(k, F)`` it has one row per client, and column 0 is 1 for a client that is
            there and 0 for padding, where fewer than k could be invited.
        action_space: MultiDiscrete with the same m choices for each of k clients, ``[n_1 … n_m] * k``; or a Box of
            m numbers for each of k clients, e.g. of shape ``(k,)``.
        learner: ``ppo``; ``reinforce``, one-step policy gradient over free logits; ``relative``, the same against an
            agent's own past, over logits that agents share in part; ``vdn``, value decomposition.
        lr: step size that suits it, where the configuration names none.
        relative: settings of ``relative``, the same for all agents of a control.
    """

    observation_space: Space[Any]
    action_space: Space[Any]
    learner: Literal["ppo", "reinforce", "relative", "vdn"] = "ppo"
    lr: float = 1e-3
    relative: Relative = Relative(calls=0, memory=0.0, shared=0.0)

    @property
    def is_virtual(self) -> bool:
        """Whether it is one client's own agent, of nothing but logits, which is paid when that client's call is in."""
        return self.learner in ("reinforce", "relative")


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
        method: Any,
        infos: Sequence[ClientInfo],
        costs: Costs,
        cohort: int,
        layout: str = "",
    ) -> None:
        """Keep what decisions rest on.

        Args:
            method: the :class:`~strata.engine.method.algorithm.Algorithm` whose decisions these are.
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
