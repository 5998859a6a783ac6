"""The environment for any other RL library: one agent that makes all decisions, in plain gymnasium."""

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from strata.engine.errors import ConfigError
from strata.engine.method.control import Actions, AgentId, Observation
from strata.envs.opening import Windows
from strata.envs.turns import Turn, Turns

Seen = dict[str, Observation | np.int64]
"""The observation of each agent, and the stage."""


class FederatedRounds(gymnasium.Env[Seen, Actions]):
    """Federated rounds as a plain environment, over the decisions of any method.

    ``import strata.envs; gymnasium.make("Strata/FederatedRounds-v0", method="hapfl", fidelity="timing", rounds=50)``

    ## Action space
    ``Dict`` with the action space of every agent of the method's :class:`~strata.engine.method.control.Control`. A step
    uses the entries of the agents whose turn it is, and ignores the others.

    ## Observation space
    ``Dict`` with ``stage`` (``Discrete``: whose turn it is, 0 for a round's first) and the observation space of every
    agent; the entries of agents whose turn it is not are zeros, or what of their spaces lies closest to zero.

    ## Rewards
    0 after each stage but the last; then the sum of the rewards of all agents that acted in the round.

    ## Episode end
    Truncated after ``rounds`` rounds, never terminated. ``reset`` opens the next window of rounds where the federation
    is; training starts anew only with ``options={"restart": True}``, or at each reset with ``episodes="restart"``,
    where ``reset(seed=s)`` begins a federation of seed s. Rounds to which nobody could be invited pass by themselves
    and count.

    ## Info
    ``agents``: whose turn it is. After a round also ``rewards`` (by agent), ``round_s`` and ``straggling_s`` (virtual
    seconds) and ``accuracy`` (None where it was not evaluated).

    ## Arguments
    Those of :class:`~strata.envs.opening.Windows`: ``method``, ``overrides``, ``fidelity`` (``full`` trains models,
    ``timing`` only computes times), ``rounds``, ``populations``, ``turns``, ``episodes`` (``continue`` or ``restart``).
    Without any: HAPFL with few clients, timed.
    """

    metadata = {"render_modes": []}  # noqa: RUF012  # gymnasium declares it so

    def __init__(self, **arguments: Any) -> None:
        self._windows = Windows(**arguments)
        agents = self._windows.control.agents
        if not agents:
            self._windows.close()
            raise ConfigError("all agents of the method are switched off: there is nothing to decide.")
        self.agents: list[AgentId] = list(agents)
        self._blank = {agent: blank(spec.observation_space) for agent, spec in agents.items()}
        self.action_space = spaces.Dict({agent: spec.action_space for agent, spec in agents.items()})
        self.observation_space = spaces.Dict(
            {"stage": spaces.Discrete(len(agents) + 1), **{a: spec.observation_space for a, spec in agents.items()}}
        )
        self._turns: Turns | None = None
        self._now: list[AgentId] = []
        self._stage = 0
        self._last: Seen = {}

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, object] | None = None
    ) -> tuple[Seen, dict[str, object]]:
        """Open the next window of rounds.

        A seed is that of the federations that begin from now on, where each window begins one
        (``episodes="restart"``); else it changes nothing, because rounds go on and all randomness derives from the
        run's seed.
        """
        super().reset(seed=seed)
        self._turns = self._windows.next(bool((options or {}).get("restart")), seed)
        turn = self._open()
        if turn is None:
            raise ConfigError("nobody is available in any round of the window; raise delays.availability.")
        return self._observe(turn, stage=0), {"agents": self._now}

    def step(self, action: Actions) -> tuple[Seen, float, bool, bool, dict[str, object]]:
        """Take the actions of the agents whose turn it is.

        Raises:
            ActionError: naming agent and round, for an action that is missing or outside its space.
        """
        assert self._turns is not None, "reset the environment first"
        result = self._turns.act({agent: action[agent] for agent in self._now if agent in action})
        if isinstance(result, Turn):
            return self._observe(result, self._stage + 1), 0.0, False, False, {"agents": self._now}
        self._windows.left -= 1
        info = {
            "rewards": dict(result.rewards),
            "round_s": result.report.round_s,
            "straggling_s": result.report.straggling_s,
            "accuracy": result.report.accuracy,
        }
        turn = self._open()
        observation = self._last if turn is None else self._observe(turn, stage=0)
        info["agents"] = [] if turn is None else self._now
        return observation, float(sum(result.rewards.values())), False, turn is None, info

    def _open(self) -> Turn | None:
        """The next round's first turn, past rounds to which nobody could be invited; None at the window's end."""
        assert self._turns is not None
        while self._windows.left > 0:
            turn = self._turns.open()
            if turn.observations:
                return turn
            self._turns.act({})
            self._windows.left -= 1
        return None

    def _observe(self, turn: Turn, stage: int) -> Seen:
        self._now, self._stage = list(turn.observations), stage
        self._last = {"stage": np.int64(stage), **self._blank, **turn.observations}
        return self._last

    def close(self) -> None:
        """End a federation that this environment started."""
        self._windows.close()


def blank(space: spaces.Space[Any]) -> Observation:
    """What stands for the observation of an agent whose turn it is not: the point of its Box closest to zero."""
    assert isinstance(space, spaces.Box)
    return np.clip(np.zeros(space.shape, np.float32), space.low, space.high)
