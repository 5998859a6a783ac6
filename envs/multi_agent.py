"""The environment of RLlib's new API stack: several agents, turn by turn within a round."""

from collections.abc import Mapping
from typing import Any

from gymnasium.spaces import Dict, flatten_space
from ray.rllib.env.multi_agent_env import MultiAgentEnv

from strata.engine.errors import ConfigError
from strata.engine.method.control import AgentId, Observation
from strata.envs.stages import StagedRounds


class FederatedRoundsEnv(StagedRounds, MultiAgentEnv):
    """Federated rounds as RLlib's multi-agent environment, over the decisions of any method.

    Each stage of a round is one step: its agents see their observations and act, the others wait. The last stage's
    step runs the federated round and pays everyone who acted in it.

    Action and observation spaces are those of the method's :class:`~strata.engine.method.control.Control`, by agent. An
    episode is a window of rounds: it is truncated after ``rounds`` of them, never terminated, and the agents that acted
    then see their last observations once more. ``reset`` opens the next window where the federation is; training starts
    anew only with ``options={"restart": True}``, or at each reset with ``episodes="restart"``, where ``reset(seed=s)``
    begins a federation of seed s.

    ``infos["__common__"]`` holds ``turn`` (the :class:`~strata.envs.turns.Turn`) and, after a round, ``played`` (the
    :class:`~strata.envs.turns.Played`).
    """

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        """Keep what opens the rounds; RLlib hands over its ``env_config``.

        Args:
            config: arguments of :class:`~strata.envs.opening.Windows`, e.g. ``{"method": "hapfl"}``; and
                ``observations``: ``rows`` (k, F) of clients, as Strata's own networks read them, or ``flat`` (k·F,), as
                RLlib's default networks do.

        Raises:
            ConfigError: for anything wrong with it.
        """
        given = dict(config or {})
        form = given.pop("observations", "rows")
        if form not in ("rows", "flat"):
            raise ConfigError(f"observations={form}: expected rows or flat.")
        self._flat = form == "flat"
        MultiAgentEnv.__init__(self)
        StagedRounds.__init__(self, given)
        if self._flat:
            self.observation_spaces = {agent: flatten_space(box) for agent, box in self.observation_spaces.items()}
            self.observation_space = Dict(self.observation_spaces)

    def shown(self, observations: Mapping[AgentId, Observation]) -> dict[AgentId, Observation]:
        """Observations in the form that was asked for."""
        return {agent: seen.ravel() if self._flat else seen for agent, seen in observations.items()}
