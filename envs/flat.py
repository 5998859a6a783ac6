"""The environment as Stable-Baselines3 takes it: a Box of observations, and a Box or MultiDiscrete of actions.

# k clients, m choices of each
"""

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from strata.engine.errors import ActionError
from strata.engine.method.control import Actions, AgentId
from strata.envs.plain import FederatedRounds, Seen

Flat = NDArray[np.generic]


class FlatRounds(gymnasium.Env[Flat, Flat]):
    """:class:`~strata.envs.plain.FederatedRounds` with its spaces laid out as single arrays.

    ``import strata.envs; gymnasium.make("Strata/FederatedRoundsFlat-v0", method="hapfl", rounds=50)``

    ## Observation space
    A ``Box`` of one dimension: whose turn it is, one-hot over the stages, then the numbers of all observations.

    ## Action space
    ``MultiDiscrete``, the choices of all agents one after the other, where every agent chooses; else a ``Box`` between
    −1 and 1. There a continuous action is stretched to its own bounds, and a choice among n is the number of the one of
    n equal parts of [−1, 1] that its entry lies in. Entries of agents whose turn it is not are ignored.

    ## Rewards, episode end, info, arguments
    As in :class:`~strata.envs.plain.FederatedRounds`.
    """

    metadata = {"render_modes": []}  # noqa: RUF012  # gymnasium declares it so

    def __init__(self, **arguments: Any) -> None:
        self._rounds = FederatedRounds(**arguments)
        assert isinstance(self._rounds.action_space, spaces.Dict)
        assert isinstance(self._rounds.observation_space, spaces.Dict)
        acts, sees = self._rounds.action_space, self._rounds.observation_space
        self._agents: dict[AgentId, spaces.Space[Any]] = {agent: acts[agent] for agent in self._rounds.agents}
        assert isinstance(sees["stage"], spaces.Discrete)
        self._stages = int(sees["stage"].n)
        boxes = [spaces.flatten_space(sees[agent]) for agent in self._agents]
        low = [np.zeros(self._stages, np.float32), *[box.low for box in boxes if isinstance(box, spaces.Box)]]
        high = [np.ones(self._stages, np.float32), *[box.high for box in boxes if isinstance(box, spaces.Box)]]
        self.observation_space = spaces.Box(np.concatenate(low), np.concatenate(high), dtype=np.float32)
        self.action_space = joint_space(self._agents)

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, object] | None = None
    ) -> tuple[Flat, dict[str, object]]:
        """Open the next window of rounds; seed and options as in :class:`~strata.envs.plain.FederatedRounds`."""
        super().reset(seed=seed)
        observation, info = self._rounds.reset(seed=seed, options=options)
        return self._flat(observation), info

    def step(self, action: Flat) -> tuple[Flat, float, bool, bool, dict[str, object]]:
        """Take the actions of the agents whose turn it is.

        Raises:
            ActionError: for an action outside the action space.
        """
        if not self.action_space.contains(np.asarray(action, self.action_space.dtype)):
            raise ActionError(f"expected an action in {self.action_space}, got {action}.")
        observation, reward, over, truncated, info = self._rounds.step(self.actions(action))
        return self._flat(observation), reward, over, truncated, info

    def actions(self, action: Flat) -> Actions:
        """The action of every agent, of one of the joint space."""
        sizes = [size_of(space) for space in self._agents.values()]
        parts = np.split(np.asarray(action), np.cumsum(sizes)[:-1])
        whole = isinstance(self.action_space, spaces.MultiDiscrete)
        return {
            agent: part.reshape(space.shape or ()) if whole else stretched(part, space)
            for (agent, space), part in zip(self._agents.items(), parts, strict=True)
        }

    def _flat(self, observation: Seen) -> Flat:
        stage = np.zeros(self._stages, np.float32)
        stage[observation["stage"]] = 1
        return np.concatenate([stage, *[np.ravel(observation[agent]) for agent in self._agents]])

    def close(self) -> None:
        """End a federation that this environment started."""
        self._rounds.close()


def joint_space(agents: Mapping[AgentId, spaces.Space[Any]]) -> spaces.Space[Any]:
    """The actions of all agents in one array."""
    choices = [np.ravel(space.nvec) for space in agents.values() if isinstance(space, spaces.MultiDiscrete)]
    if len(choices) == len(agents):
        return spaces.MultiDiscrete(np.concatenate(choices))
    size = sum(size_of(space) for space in agents.values())
    return spaces.Box(-1.0, 1.0, (size,), np.float32)


def size_of(space: spaces.Space[Any]) -> int:
    """Numbers of an action: k · m."""
    return int(np.prod(space.shape or ()))


def stretched(part: Flat, space: spaces.Space[Any]) -> Flat:
    """Numbers between −1 and 1 as an action of one agent: choices by equal parts, others by the bounds of their Box."""
    share = (part.astype(np.float64).reshape(space.shape or ()) + 1) / 2
    if isinstance(space, spaces.MultiDiscrete):
        choices: Flat = np.minimum((share * space.nvec).astype(np.int64), space.nvec - 1)
        return choices
    assert isinstance(space, spaces.Box)
    within: Flat = np.clip(space.low + share * (space.high - space.low), space.low, space.high).astype(np.float32)
    return within
