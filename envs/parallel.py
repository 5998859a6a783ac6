"""PettingZoo's parallel environment: the agents of a method, who all step together. Needs ``strata-fl[rl]``."""

from collections.abc import Mapping
from typing import Any

from gymnasium import spaces

from strata.engine.errors import ConfigError
from strata.engine.method.control import Actions, AgentId, Observation
from strata.envs.plain import FederatedRounds, Seen

try:
    from pettingzoo import ParallelEnv
except ImportError as error:
    raise ConfigError(
        'strata.envs.parallel needs PettingZoo, which is not installed: pip install "strata-fl[rl]".'
    ) from error

Infos = dict[AgentId, dict[str, object]]
Step = tuple[dict[AgentId, Observation], dict[AgentId, float], dict[AgentId, bool], dict[AgentId, bool], Infos]
"""Observations, rewards, terminations, truncations and infos, each of every agent."""


class ParallelRounds(ParallelEnv[AgentId, Observation, Any]):
    """Federated rounds as PettingZoo's parallel environment, over the decisions of any method.

    Every agent is there in every step. One stage of a round is a step: it uses the actions of those whose turn it is
    (``infos[agent]["acts"]``) and ignores the others, who see what of their spaces lies closest to zero. Rewards are 0
    after each stage but the last of a round. After ``rounds`` rounds all are truncated; seeds, options and arguments
    are those of :class:`~strata.envs.plain.FederatedRounds`.

    ``infos[agent]`` holds ``acts`` and, after a round, ``round_s`` and ``straggling_s`` (virtual seconds) and
    ``accuracy`` (None where it was not evaluated).
    """

    metadata = {"name": "strata_federated_rounds_v0", "render_modes": []}  # noqa: RUF012  # as PettingZoo declares it
    render_mode: str | None = None

    def __init__(self, **arguments: Any) -> None:
        """``arguments`` of :class:`~strata.envs.opening.Windows`."""
        self._rounds = FederatedRounds(**arguments)
        self.possible_agents: list[AgentId] = list(self._rounds.agents)
        self.agents: list[AgentId] = []
        acts, sees = self._rounds.action_space, self._rounds.observation_space
        assert isinstance(acts, spaces.Dict)
        assert isinstance(sees, spaces.Dict)
        self.action_spaces = {agent: acts[agent] for agent in self.possible_agents}
        self.observation_spaces = {agent: sees[agent] for agent in self.possible_agents}

    def observation_space(self, agent: AgentId) -> spaces.Space[Any]:
        """What an agent sees."""
        return self.observation_spaces[agent]

    def action_space(self, agent: AgentId) -> spaces.Space[Any]:
        """What an agent may do."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: Mapping[str, object] | None = None
    ) -> tuple[dict[AgentId, Observation], Infos]:
        """Open the next window of rounds, with every agent."""
        observation, info = self._rounds.reset(seed=seed, options=options)
        self.agents = list(self.possible_agents)
        return self._seen(observation), self._infos(info)

    def step(self, actions: Actions) -> Step:
        """Take the actions of the agents whose turn it is.

        Raises:
            ActionError: naming agent and round, for an action that is missing or outside its space.
        """
        observation, _, _, over, info = self._rounds.step(actions)
        everyone = self.possible_agents
        paid = info.get("rewards", {})
        assert isinstance(paid, dict)
        if over:
            self.agents = []
        rewards = {agent: float(paid.get(agent, 0.0)) for agent in everyone}
        return (
            self._seen(observation),
            rewards,
            dict.fromkeys(everyone, False),
            dict.fromkeys(everyone, over),
            self._infos(info),
        )

    def _seen(self, observation: Seen) -> dict[AgentId, Observation]:
        return {agent: observation[agent] for agent in self.possible_agents}  # type: ignore[misc]  # not "stage"

    def _infos(self, info: dict[str, object]) -> Infos:
        now = info["agents"]
        assert isinstance(now, list)
        shared: dict[str, object] = {key: info[key] for key in ("round_s", "straggling_s", "accuracy") if key in info}
        return {agent: {"acts": agent in now, **shared} for agent in self.possible_agents}

    def close(self) -> None:
        """End a federation that this environment started."""
        self._rounds.close()
