"""PerMFL's decision: how strongly models are pulled to each other in the next global round.

One agent, "pulls", acts once per global round and for all teams alike. It sees one row: how far the rounds have come,
the last accuracy (and whether there is one). Its action (a, b, c) in [−1, 1]³ asks for λ · 4^a, γ · 4^b and β · 4^c, of
the configured λ, γ and β; (0, 0, 0) leaves them as they are. λ means both λ_d and λ_t.

Where that would make a model diverge (βγ, η(λ_t + γ) or α λ_d ≥ 2), all factors are drawn back in a straight line
towards 1, to where 99 % of the room between the configured values and the limit is used; what is configured beyond a
limit is not raised further. The theorems' condition γ > 2λ is not enforced, as it is for configured values.

It is paid the gain of accuracy, of the global model. The paper has fixed λ, γ and β: all of this is ours.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box

from strata.engine.method.control import Actions, AgentId, AgentSpec, Control, Observation
from strata.engine.method.features import pad_rows
from strata.engine.method.situation import Decisions, Report, Situation

REACH = 4.0  # largest factor on λ, γ and β; its inverse is the smallest
LIMIT = 2.0  # of what :meth:`strata.algorithms.permfl.PerMFLConfig.validate` bounds
ROOM = 0.99  # share of the room up to the limit that may be used
FEATURES = 4

LAM, LAM_TEAM, GAMMA, BETA = "lam", "lam_team", "gamma", "beta"
"""What the server is told: λ (both λ_d and λ_t), λ_t where it is another, γ and β."""


class PullsControl(Control):
    """The decision on λ, γ and β of the next global round, by the one agent "pulls"."""

    heuristics: ClassVar[tuple[str, ...]] = ("uniform", "random")

    def make_agents(self) -> dict[AgentId, AgentSpec]:
        """The agent "pulls", with one row of four features and an action (a, b, c)."""
        seen = Box(-8.0, 8.0, (1, FEATURES), np.float32)
        return {"pulls": AgentSpec(seen, Box(-1.0, 1.0, (3,), np.float32), lr=1e-3)}

    def stages(self, situation: Situation) -> Sequence[Sequence[AgentId]]:
        """One stage; none where nobody was invited."""
        return [["pulls"]] if situation.clients else []

    def observe(self, agent: AgentId, situation: Situation, chosen: Actions) -> Observation:
        """One row: 1, log₁₀ of the round, the last accuracy (0 where there is none), whether there is one."""
        known = situation.accuracy is not None
        row = (np.log10(situation.round), situation.accuracy or 0.0, float(known))
        return pad_rows([np.array([value]) for value in row], 1)

    def decide(self, situation: Situation, chosen: Actions) -> Decisions:
        """Everyone who was invited takes part, at the default; the server is told ``lam``, ``gamma`` and ``beta``.

        Where teams have a λ of their own it is told as ``lam_team``.
        """
        config = self.method.config
        lam, gamma, beta = self.factors(chosen["pulls"])
        server = {LAM: lam * config.lambda_device, GAMMA: gamma * config.gamma, BETA: beta * config.beta}
        if config.lambda_team is not None:
            server[LAM_TEAM] = lam * config.lambda_team
        return Decisions({client: {} for client in situation.clients}, server)

    def factors(self, action: Any) -> tuple[float, float, float]:
        """An action ``(3,)`` as factors on λ, γ and β under which no model diverges."""
        config = self.method.config
        lam, gamma, beta = (REACH ** np.asarray(action, np.float64) - 1).tolist()
        team, pull = config.eta * config.lambda_t, config.eta * config.gamma
        device, server = config.alpha * config.lambda_device, config.beta * config.gamma
        share = min(
            _share(server * (gamma + beta), server * gamma * beta, server),
            _share(team * lam + pull * gamma, 0.0, team + pull),
            _share(device * lam, 0.0, device),
        )
        return 1 + share * lam, 1 + share * gamma, 1 + share * beta

    def rewards(self, situation: Situation, chosen: Actions, report: Report) -> Mapping[AgentId, float]:
        """What the agent is paid: the gain of the global model's accuracy."""
        return {"pulls": report.gain}

    def describe(self, situation: Situation, chosen: Actions) -> Mapping[str, float]:
        """λ, γ and β as decided."""
        return {name: float(value) for name, value in self.decide(situation, chosen).server.items()}

    def suggest(
        self, heuristic: str, agent: AgentId, situation: Situation, chosen: Actions, draws: np.random.Generator
    ) -> Any:
        """The action of a rule: ``uniform`` leaves λ, γ and β as they are configured."""
        if heuristic == "uniform":
            return np.zeros(3, np.float32)
        if heuristic == "random":
            return super().suggest(heuristic, agent, situation, chosen, draws)
        raise ValueError(f"{heuristic}: no such rule; expected one of {', '.join(self.heuristics)}")


def _share(slope: float, bend: float, now: float) -> float:
    """How far to go, 0..1, of what is asked for, where s of it adds ``slope`` s + ``bend`` s² to what is ``now``.

    All of it if that stays within the room up to the limit; else to where the room is first used up.
    """
    room = max(0.0, ROOM * (LIMIT - now))
    if slope + bend <= room:
        return 1.0
    if not bend:
        return room / slope
    root = math.sqrt(max(0.0, slope**2 + 4 * bend * room))
    ends = [(-slope + sign * root) / (2 * bend) for sign in (-1, 1)]
    return min((end for end in ends if 0 <= end <= 1), default=0.0)
