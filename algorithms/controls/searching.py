"""PerFedRLNAS's decisions: a virtual agent per client picks the client's architecture, option by option.

Agents ``client_0 … client_{N-1}`` see nothing and hold only logits: π_i(a) = Π_d softmax(α_{i,d})[a_d]
(:mod:`strata.agents.families.reinforce`). In a round those of the cohort act, all at once; the others neither act nor
learn. Nor does an agent learn whose client was lost or late, of which the server knows nothing.

Symbols
    acc_i   accuracy of client i's trained subnet on its own test data; 0 where it was over its memory budget
    b       mean over all clients seen before of their best accuracies so far
    τ_i     virtual seconds of client i's call;  min τ: over the calls reported together
    neg_i   share of the tensors of Δ_i whose cosine with the aggregate's change is negative

Reward: r_i = acc_i − b − λ_time (τ_i − min τ) − λ_neg neg_i.

Choices of ours: where nobody was seen before, b is the mean of the accuracies that came in, or else every first choice
would be praised whatever it is. Where rounds are only timed nothing is known of accuracies and conflicts, and the
latency alone is left.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box, MultiDiscrete

from strata.engine.method.calls import FloatArray
from strata.engine.method.control import Actions, AgentId, AgentSpec, Control, Observation
from strata.engine.method.situation import Decisions, Report, Situation
from strata.engine.models.supernets.cost import cost
from strata.engine.models.supernets.space import Architecture
from strata.engine.models.supernets.subnet import SubnetSpec

LR = 0.5
"""Of each agent's Adam [released configuration]."""

ARCHITECTURE = "architecture"
"""What a client is told: its architecture, as :func:`written` writes it."""
ACCURACY, BEST_ACCURACY, CONFLICT = "accuracy", "best_accuracy", "conflict"
"""Metrics of a call that rewards rest on: acc_i, the best acc_i so far (0..1 both), and neg_i."""
MEMORY_MIB, BUDGET_MIB = "memory_mib", "budget_mib"
"""Metrics of a call in MiB: what a training step took, and what the client has."""


class SearchControl(Control):
    """See the module's docstring. For methods with ``supernet``, whose clients are told an ``architecture``."""

    heuristics: ClassVar[tuple[str, ...]] = ("random", "largest", "smallest")

    def make_agents(self) -> dict[AgentId, AgentSpec]:
        """One per client."""
        self.supernet: SubnetSpec = self.method.supernet
        spec = AgentSpec(Box(1.0, 1.0, (1,), np.float32), MultiDiscrete(self.supernet.space.sizes), "reinforce", LR)
        return {agent_of(info.id): spec for info in self.infos}

    def stages(self, situation: Situation) -> Sequence[Sequence[AgentId]]:
        """The agents of those invited, side by side."""
        return [[agent_of(client) for client in situation.clients]] if situation.clients else []

    def observe(self, agent: AgentId, situation: Situation, chosen: Actions) -> Observation:
        """Nothing: a one."""
        return np.ones(1, np.float32)

    def decide(self, situation: Situation, chosen: Actions) -> Decisions:
        """Each client's architecture."""
        picked = self._architectures(situation, chosen)
        return Decisions({client: {ARCHITECTURE: written(found)} for client, found in picked.items()})

    def rewards(self, situation: Situation, chosen: Actions, report: Report) -> Mapping[AgentId, float]:
        """See the module's docstring."""
        config, calls, done = self.method.config, report.calls, report.calls.completed
        accuracy, conflict = (_known(report, name)[done] for name in (ACCURACY, CONFLICT))
        seen = situation.everyone.get(BEST_ACCURACY, np.empty(0))
        seen = seen[np.isfinite(seen)]
        gain = accuracy - (seen if len(seen) else accuracy).mean() if ACCURACY in calls.metrics else 0.0
        seconds = calls.total_s[done]
        late = seconds - seconds.min(initial=np.inf)
        paid = gain - config.lambda_time * late - config.lambda_neg * conflict
        return {agent_of(client): float(r) for client, r in zip(calls.client[done], paid, strict=True)}

    def describe(self, situation: Situation, chosen: Actions) -> Mapping[str, float]:
        """How many different architectures were picked, and what they cost on average."""
        picked = self._architectures(situation, chosen).values()
        costs = [cost(self.method.spec(found), 1) for found in picked]
        return {
            "architectures": float(len(set(picked))),
            "parameters_mean": float(np.mean([found.parameters for found in costs])),
            "mflops_per_sample_mean": float(np.mean([found.flops for found in costs])) / 1e6,
        }

    def suggest(
        self, heuristic: str, agent: AgentId, situation: Situation, chosen: Actions, draws: np.random.Generator
    ) -> Any:
        """Rules to beat: ``largest`` and ``smallest`` for everybody, and ``random``, drawn anew for every call."""
        if heuristic == "random":
            return super().suggest(heuristic, agent, situation, chosen, draws)
        if heuristic not in self.heuristics:
            raise ValueError(f"{heuristic}: no such rule; expected one of {', '.join(self.heuristics)}")
        return np.array(self.supernet.space.named(heuristic))

    def _architectures(self, situation: Situation, chosen: Actions) -> dict[int, Architecture]:
        return {client: tuple(int(index) for index in chosen[agent_of(client)]) for client in situation.clients}


def agent_of(client: int) -> AgentId:
    """The virtual agent of a client."""
    return f"client_{client}"


def written(architecture: Sequence[int]) -> str:
    """An architecture as assignments carry it, ``0,2,1``; ``SearchSpace.named`` reads it."""
    return ",".join(map(str, architecture))


def _known(report: Report, name: str) -> FloatArray:
    """What clients reported, 0 where one did not."""
    return np.nan_to_num(report.calls.metrics.get(name, np.zeros(len(report.calls))))
