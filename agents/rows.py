"""How one agent's spaces divide among clients: rows of features in, choices or shares out.

# B batch, k clients (rows), F features, m choices per client, O outputs per client
"""

from dataclasses import dataclass

import numpy as np
from gymnasium.spaces import Box, MultiDiscrete, Space


@dataclass(frozen=True)
class PerClient:
    """The pattern of an agent's spaces that repeats for every client.

    Attributes:
        clients: k, rows of the observation.
        features: F; column 0 says whether there is a client.
        choices: options of each of the m choices a client needs; empty for continuous actions.
        outputs: O, numbers a network gives per client: logits of all choices, or m means.
    """

    clients: int
    features: int
    choices: tuple[int, ...]
    outputs: int


def per_client(observations: Space[object], actions: Space[object]) -> PerClient:
    """The pattern for one client of an agent's observation and action spaces.

    Raises:
        ValueError: when they do not repeat for every client; see :class:`strata.engine.method.control.AgentSpec`.
    """
    shape = observations.shape
    if not isinstance(observations, Box) or shape is None or len(shape) != 2:
        raise ValueError(f"expected observations in a Box of shape (clients, features), not {observations}")
    k, features = shape
    if isinstance(actions, MultiDiscrete):
        options = [int(n) for n in np.ravel(actions.nvec)]
        choices = tuple(options[: len(options) // k])
        if list(choices) * k != options:
            raise ValueError(f"expected the same choices for each of {k} clients, not {actions}")
        return PerClient(k, features, choices, sum(choices))
    size = int(np.prod(actions.shape or ()))
    if not isinstance(actions, Box) or size % k:
        raise ValueError(f"expected actions in a Box of a multiple of {k} numbers, not {actions}")
    return PerClient(k, features, (), size // k)
