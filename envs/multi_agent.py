"""The environment of RLlib's new API stack: several agents, turn by turn within a round."""

from collections.abc import Mapping
from typing import Any

from gymnasium import spaces
from ray.rllib.env.multi_agent_env import MultiAgentEnv

from engine.control import COMMON, AgentId, Observation
from envs.opening import Windows
from envs.turns import Played, Turn, Turns

Step = tuple[
    dict[AgentId, Observation], dict[AgentId, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]
]
"""Observations, rewards, terminations, truncations and infos."""


class FederatedRoundsEnv(MultiAgentEnv):
    """Federated rounds as RLlib's multi-agent environment, over the decisions of any method.

    Each stage of a round is one step: its agents see their observations and act, the others wait. The last stage's
    step runs the federated round and pays everyone who acted in it.

    Action and observation spaces are those of the method's :class:`~engine.control.Control`, by agent. An episode is a
    window of rounds: it is truncated after ``rounds`` of them, never terminated, and the agents that acted then see
    their last observations once more. ``reset`` opens the next window where the federation is; training starts anew
    only with ``options={"restart": True}``.

    ``infos["__common__"]`` holds ``turn`` (the :class:`~envs.turns.Turn`) and, after a round, ``played`` (the
    :class:`~envs.turns.Played`).
    """

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        """``config``: arguments of :class:`~envs.opening.Windows`, e.g. ``{"method": "hapfl", "rounds": 20}``."""
        super().__init__()
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
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[AgentId, Observation], dict[str, Any]]:
        """Open the next window of rounds. A seed changes nothing: all randomness derives from the run's."""
        self._turns = self._windows.next(restart=bool((options or {}).get("restart")))
        self._seen = {}
        turn = self._turns.open()
        return self._observed(turn), {COMMON: {"turn": turn}}

    def step(self, action_dict: Mapping[AgentId, Any]) -> Step:
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
        info: dict[str, Any] = {"played": played}
        if self._windows.left:
            turn = self._turns.open()
            info["turn"] = turn
            observations, over = self._observed(turn), False
        else:
            # An agent that is truncated needs a last observation.
            observations, over = dict(self._seen), True
        return observations, dict(played.rewards), {"__all__": False}, {"__all__": over}, {COMMON: info}

    def _observed(self, turn: Turn) -> dict[AgentId, Observation]:
        self._seen.update(turn.observations)
        return dict(turn.observations)

    def close(self) -> None:
        """End a federation that this environment started."""
        self._windows.close()
