"""PerMFL's decision: how strongly models are pulled to each other in the next global round.

One agent, "pulls", acts once per global round and for all teams alike. It sees one row: how far the rounds have come,
the last accuracy (and whether there is one). Its action (a, b) in [−1, 1]² asks for λ · 4^a and γ · 4^b, of the
configured λ and γ; (0, 0) leaves both as they are. λ means both λ_d and λ_t.

Where that would make a model diverge (βγ, η(λ_t + γ) or α λ_d ≥ 2), both factors are drawn back in a straight line
towards 1, to where 99 % of the room between the configured values and the limit is used. The theorems' condition
γ > 2λ is not enforced, as it is for configured values.

It is paid the gain of accuracy, of the global model. The paper has fixed λ and γ: all of this is ours.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box

from strata.engine.method.control import Actions, AgentId, AgentSpec, Control, Observation
from strata.engine.method.features import pad_rows
from strata.engine.method.situation import Decisions, Report, Situation

REACH = 4.0  # largest factor on λ and γ; its inverse is the smallest
LIMIT = 2.0  # of what :meth:`strata.algorithms.permfl.PerMFLConfig.validate` bounds
ROOM = 0.99  # share of the room up to the limit that may be used
FEATURES = 4

LAM, LAM_TEAM, GAMMA = "lam", "lam_team", "gamma"
"""What the server is told: λ (both λ_d and λ_t), λ_t where it is another, and γ."""


class PullsControl(Control):
    """See the module's docstring."""

    heuristics: ClassVar[tuple[str, ...]] = ("uniform", "random")

    def make_agents(self) -> dict[AgentId, AgentSpec]:
        """The one agent."""
        seen = Box(-8.0, 8.0, (1, FEATURES), np.float32)
        return {"pulls": AgentSpec(seen, Box(-1.0, 1.0, (2,), np.float32), lr=1e-3)}

    def stages(self, situation: Situation) -> Sequence[Sequence[AgentId]]:
        """One stage; none where nobody was invited."""
        return [["pulls"]] if situation.clients else []

    def observe(self, agent: AgentId, situation: Situation, chosen: Actions) -> Observation:
        """One row: 1, log₁₀ of the round, the last accuracy (0 where there is none), whether there is one."""
        known = situation.accuracy is not None
        row = (np.log10(situation.round), situation.accuracy or 0.0, float(known))
        return pad_rows([np.array([value]) for value in row], 1)

    def decide(self, situation: Situation, chosen: Actions) -> Decisions:
        """Everyone who was invited takes part, at the default; the server is told ``lam`` and ``gamma``.

        Where teams have a λ of their own it is told as ``lam_team``.
        """
        config = self.method.config
        lam, gamma = self.factors(chosen["pulls"])
        server = {LAM: lam * config.lambda_device, GAMMA: gamma * config.gamma}
        if config.lambda_team is not None:
            server[LAM_TEAM] = lam * config.lambda_team
        return Decisions({client: {} for client in situation.clients}, server)

    def factors(self, action: Any) -> tuple[float, float]:
        """An action ``(2,)`` as factors on λ and γ under which no model diverges."""
        config = self.method.config
        steps = REACH ** np.asarray(action, np.float64) - 1
        for terms in (
            np.array([0.0, config.beta * config.gamma]),
            np.array([config.eta * config.lambda_t, config.eta * config.gamma]),
            np.array([config.alpha * config.lambda_device, 0.0]),
        ):
            rise, room = float(terms @ steps), ROOM * (LIMIT - float(terms.sum()))
            if rise > room:
                steps = steps * (room / rise)
        return 1 + float(steps[0]), 1 + float(steps[1])

    def rewards(self, situation: Situation, chosen: Actions, report: Report) -> Mapping[AgentId, float]:
        """The gain of accuracy."""
        return {"pulls": report.gain}

    def describe(self, situation: Situation, chosen: Actions) -> Mapping[str, float]:
        """λ and γ as decided."""
        return {name: float(value) for name, value in self.decide(situation, chosen).server.items()}

    def suggest(
        self, heuristic: str, agent: AgentId, situation: Situation, chosen: Actions, draws: np.random.Generator
    ) -> Any:
        """``uniform``: the configured λ and γ."""
        if heuristic == "uniform":
            return np.zeros(2, np.float32)
        if heuristic == "random":
            return super().suggest(heuristic, agent, situation, chosen, draws)
        raise ValueError(f"{heuristic}: no such rule; expected one of {', '.join(self.heuristics)}")
