"""Features of clients as rows of an observation."""

from collections.abc import Sequence

import numpy as np
from gymnasium.spaces import Box

from strata.engine.method.calls import FloatArray
from strata.engine.method.control import Observation


def relative(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Values ≥ 0 ``(k,)`` against their mean, as two features: the ratio minus 1, and its logarithm.

    Where all are 0 they are equal; one that is 0 beside others counts as a millionth of their mean.
    """
    mean = np.add.reduce(values) / len(values)  # as values.mean(), in a third of its time
    ratio = values / mean if mean > 0 else np.ones(len(values))
    return ratio - 1.0, np.log(np.maximum(ratio, 1e-6))


def rows_space(k: int, features: int) -> Box:
    """The space of :func:`pad_rows`: k rows of ``features`` numbers, the first of which says who is there."""
    return Box(-8.0, 8.0, (k, features), np.float32)


def pad_rows(columns: Sequence[FloatArray], k: int) -> Observation:
    """Features ``(n,)`` each as an observation ``(k, 1 + F)``: column 0 is 1 for the n clients there, rows beyond 0."""
    rows = np.zeros((k, 1 + len(columns)), np.float32)
    there = len(columns[0])
    rows[:there, 0] = 1.0
    rows[:there, 1:] = np.minimum(np.maximum(np.array(columns).T, -8.0), 8.0)
    return rows
