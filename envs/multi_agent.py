"""The environment of RLlib's new API stack: several agents, turn by turn within a round."""

from collections.abc import Mapping
from typing import Any

from ray.rllib.env.multi_agent_env import MultiAgentEnv

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
        """``config``: arguments of :class:`~strata.envs.opening.Windows`, e.g. ``{"method": "hapfl"}``."""
        MultiAgentEnv.__init__(self)
        StagedRounds.__init__(self, config)
