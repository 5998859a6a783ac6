"""The pattern of an agent's spaces that repeats for every client."""

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from strata.agents.rows import PerClient, per_client


def box(*shape):
    return Box(-1.0, 1.0, shape, np.float32)


@pytest.mark.parametrize(
    ("actions", "choices", "outputs"),
    [
        (MultiDiscrete([3] * 4), (3,), 3),
        (MultiDiscrete([3, 2] * 4), (3, 2), 5),
        (MultiDiscrete([[3, 2]] * 4), (3, 2), 5),
        (box(4), (), 1),
        (box(4, 2), (), 2),
        (box(12), (), 3),
    ],
    ids=str,
)
def test_what_repeats_for_each_of_four_clients_is_found(actions, choices, outputs):
    assert per_client(box(4, 6), actions) == PerClient(4, 6, choices, outputs)


@pytest.mark.parametrize(
    ("observations", "actions", "message"),
    [
        (box(4), box(4), "expected observations in a Box of shape"),
        (box(4, 3, 2), box(4), "expected observations in a Box of shape"),
        (MultiDiscrete([[2, 2], [2, 2]]), box(2), "expected observations in a Box of shape"),
        (box(4, 6), MultiDiscrete([3] * 5), "expected the same choices for each of 4 clients"),
        (box(4, 6), MultiDiscrete([3, 3, 3, 2]), "expected the same choices for each of 4 clients"),
        (box(4, 6), MultiDiscrete([3, 3]), "expected the same choices for each of 4 clients"),
        (box(4, 6), box(6), "expected actions in a Box of a multiple of 4 numbers"),
        (box(4, 6), Discrete(4), "expected actions in a Box of a multiple of 4 numbers"),
    ],
    ids=str,
)
def test_spaces_that_do_not_repeat_are_refused(observations, actions, message):
    with pytest.raises(ValueError, match=message):
        per_client(observations, actions)
