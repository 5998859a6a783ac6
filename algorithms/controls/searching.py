"""PerFedRLNAS's decisions: a virtual agent per client picks the client's architecture, option by option.

Agents ``client_0 … client_{N-1}`` see nothing and hold only logits: π_i(a) = Π_d softmax(α_{i,d})[a_d]. In a round
those of the cohort act, all at once; the others neither act nor learn. Nor does an agent learn whose client was lost or
late, of which the server knows nothing.

Symbols
    acc_i   accuracy of client i's trained subnet on its own test data; 0 where it was over its memory budget
    b       mean over all clients seen before of their best accuracies so far
    τ_i     virtual seconds of client i's call;  min τ: over the calls reported together
    neg_i   share of the tensors of Δ_i whose cosine with the aggregate's change is negative
    R_i     acc_i − λ_time (τ_i − min τ) − λ_neg neg_i

``method.reward=published``: an agent is paid r_i = R_i − b, which is its advantage, and its logits are moved by an Adam
of its own (:mod:`strata.agents.families.reinforce`).

``method.reward=own``, the default, departs from it, because acc_i − b tells clients apart far more than architectures:
whoever has easy data is praised for whatever it drew. An agent is paid R_i, 0 where the call did not fit, and its
learner (:mod:`strata.agents.families.relative`) makes an advantage of it
    A_i = R_i − the mean of client i's own last 8 rewards    (``baseline_calls``; 0: R_i − b is paid, as published)
    divided by the root of a running mean of A² over the cohorts    (``scale_memory``; 0: not divided)
and moves logits α_i = a_i + b', of which b' is common to all clients, by plain steps
    a_i ← a_i − 0.3 A_i (π_i − onehot);  b' ← b' − 0.3 · 0.6 · Σ_i A_i (π_i − onehot)    (``shared``; 0: no b')

Choices of ours: where nobody was seen before, b is the mean of the accuracies that came in, or else every first choice
would be praised whatever it is. Where rounds are only timed nothing is known of accuracies and conflicts, and the
latency alone is left.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box, MultiDiscrete

from strata.engine.method.calls import FloatArray
from strata.engine.method.control import Actions, AgentId, AgentSpec, Control, Observation, Relative
from strata.engine.method.situation import Decisions, Report, Situation
from strata.engine.models.supernets.cost import cost
from strata.engine.models.supernets.space import Architecture
from strata.engine.models.supernets.subnet import SubnetSpec

LR = 0.5
"""Step size of each agent's Adam, with the published reward [released configuration]."""
PLAIN_LR = 0.3
"""Plain step size of each agent, with its own baseline."""

ARCHITECTURE = "architecture"
"""What a client is told: its architecture, as :func:`written` writes it."""
ACCURACY, BEST_ACCURACY, CONFLICT = "accuracy", "best_accuracy", "conflict"
"""Metrics of a call that rewards rest on: acc_i, the best acc_i so far (0..1 both), and neg_i."""
BATCH_SIZE = "batch_size"
"""Metric of a call: its batch size, 0 where none fitted."""
MEMORY_MIB, BUDGET_MIB = "memory_mib", "budget_mib"
"""Metrics of a call in MiB: what a training step took, and what the client has."""


class SearchControl(Control):
    """The decisions of methods with ``supernet``, whose clients are told an ``architecture``: an agent per client."""

    heuristics: ClassVar[tuple[str, ...]] = ("random", "largest", "smallest")

    def make_agents(self) -> dict[AgentId, AgentSpec]:
        """One virtual agent per client, which picks an option for each slot."""
        self.supernet: SubnetSpec = self.method.supernet
        spaces = Box(1.0, 1.0, (1,), np.float32), MultiDiscrete(self.supernet.space.sizes)
        config = self.method.config
        if config.reward == "published":
            spec = AgentSpec(*spaces, "reinforce", LR)
        else:
            relative = Relative(config.baseline_calls, config.scale_memory, config.shared)
            spec = AgentSpec(*spaces, "relative", PLAIN_LR, relative)
        return {agent_of(info.id): spec for info in self.infos}

    def stages(self, situation: Situation) -> Sequence[Sequence[AgentId]]:
        """The agents of those invited, side by side."""
        return [[agent_of(client) for client in situation.clients]] if situation.clients else []

    def observe(self, agent: AgentId, situation: Situation, chosen: Actions) -> Observation:
        """What a virtual agent sees: nothing, written as a one."""
        return np.ones(1, np.float32)

    def decide(self, situation: Situation, chosen: Actions) -> Decisions:
        """The architecture of each invited client."""
        picked = self._architectures(situation, chosen)
        return Decisions({client: {ARCHITECTURE: written(found)} for client, found in picked.items()})

    def rewards(self, situation: Situation, chosen: Actions, report: Report) -> Mapping[AgentId, float]:
        """What is paid for each client whose upload counted: r_i or R_i."""
        config, calls, done = self.method.config, report.calls, report.calls.completed
        accuracy, conflict = (_known(report, name)[done] for name in (ACCURACY, CONFLICT))
        seconds = calls.total_s[done]
        paid = accuracy - config.lambda_time * (seconds - seconds.min(initial=np.inf)) - config.lambda_neg * conflict
        if config.reward == "own" and BATCH_SIZE in calls.metrics:
            paid = np.where(_known(report, BATCH_SIZE)[done] > 0, paid, 0.0)
        if (config.reward == "published" or not config.baseline_calls) and ACCURACY in calls.metrics:
            seen = situation.everyone.get(BEST_ACCURACY, np.empty(0))
            seen = seen[np.isfinite(seen)]
            paid = paid - (seen if len(seen) else accuracy).mean()
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
