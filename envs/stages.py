"""Federated rounds stage by stage: RLlib's multi-agent interface, free of RLlib itself."""

from collections.abc import Mapping
from typing import Any

from gymnasium import spaces

from strata.engine.method.control import COMMON, Actions, AgentId, Observation
from strata.envs.opening import Windows
from strata.envs.turns import Played, Turn, Turns

Step = tuple[
    dict[AgentId, Observation], dict[AgentId, float], dict[str, bool], dict[str, bool], dict[str, dict[str, object]]
]
"""Observations, rewards, terminations, truncations and infos."""


class StagedRounds:
    """Federated rounds over the decisions of any method; see :class:`.multi_agent.FederatedRoundsEnv`.

    By itself for whoever drives rounds by hand: rules decide without RLlib being there.
    """

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        """``config``: arguments of :class:`~strata.envs.opening.Windows`, e.g. ``{"method": "hapfl"}``."""
        self._windows = Windows(**(config or {}))
        agents = self._windows.control.agents
        self.agents = self.possible_agents = list(agents)
        self.observation_spaces = {agent: spec.observation_space for agent, spec in agents.items()}
        self.action_spaces = {agent: spec.action_space for agent, spec in agents.items()}
        self.observation_space = spaces.Dict({agent: spec.observation_space for agent, spec in agents.items()})
        self.action_space = spaces.Dict({agent: spec.action_space for agent, spec in agents.items()})
        self._turns: Turns | None = None
        self._seen: dict[AgentId, Observation] = {}

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, object] | None = None
    ) -> tuple[dict[AgentId, Observation], dict[str, dict[str, object]]]:
        """Open the next window of rounds.

        A seed is that of the federations that begin from now on, where each window begins one
        (``episodes="restart"``); else it changes nothing, because rounds go on and all randomness derives from the
        run's seed.
        """
        self._turns = self._windows.next(bool((options or {}).get("restart")), seed)
        self._seen = {}
        turn = self._turns.open()
        return self._observed(turn), {COMMON: {"turn": turn}}

    def step(self, action_dict: Actions) -> Step:
        """Take one stage's actions.

        Raises:
            ActionError: naming agent and round, for an action that is missing, uncalled for or outside its space.
        """
        assert self._turns is not None, "reset the environment first"
        result = self._turns.act(action_dict)
        if isinstance(result, Turn):
            return self._observed(result), {}, {"__all__": False}, {"__all__": False}, {COMMON: {"turn": result}}
        return self._after_round(result)

    def _after_round(self, played: Played) -> Step:
        assert self._turns is not None
        self._windows.left -= 1
        info: dict[str, object] = {"played": played}
        if self._windows.left:
            turn = self._turns.open()
            info["turn"] = turn
            observations, over = self._observed(turn), False
        else:
            # An agent that is truncated needs a last observation.
            observations, over = dict(self._seen), True
        return observations, dict(played.rewards), {"__all__": False}, {"__all__": over}, {COMMON: info}

    def _observed(self, turn: Turn) -> dict[AgentId, Observation]:
        shown = self.shown(turn.observations)
        self._seen.update(shown)
        return shown

    def shown(self, observations: Mapping[AgentId, Observation]) -> dict[AgentId, Observation]:
        """Observations as agents are given them: as the control makes them."""
        return dict(observations)

    def close(self) -> None:
        """End a federation that this environment started."""
        self._windows.close()
