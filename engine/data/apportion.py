"""Whole numbers of samples: sharing a total out by weight, evenly, or with a guaranteed minimum.

# C clients, K classes
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from strata.engine.data.dataset import IntArray


def apportion(total: int, weights: NDArray[np.float64], floor: int = 0) -> IntArray:
    """Share ``total`` out in whole numbers, in proportion to ``weights`` ``(C,)``, after a ``floor`` for everyone.

    What is left after rounding down goes to the largest remainders. Where all weights are 0, shares are equal.

    Returns:
        counts ``(C,)`` int64 that sum to ``total`` and are at least ``floor``.

    Raises:
        ValueError: when ``total`` does not suffice for the floor.
    """
    weights = np.asarray(weights, np.float64)
    rest = total - floor * len(weights)
    if rest < 0:
        raise ValueError(f"{len(weights)} shares of at least {floor} do not fit into {total}")
    shares = rest * (weights / weights.sum() if weights.sum() > 0 else np.full(len(weights), 1 / len(weights)))
    return largest_remainders(shares, rest) + floor


def largest_remainders(shares: NDArray[np.float64], total: int) -> IntArray:
    """Round shares ``(C,)`` ≥ 0 that add up to ``total`` to whole numbers, ``(C,)`` int64, that do so as well.

    All are rounded down, then those with the largest fractional parts raised by 1; of equal parts the first comes
    first.
    """
    counts = np.floor(shares).astype(np.int64)
    order = np.argsort(counts - shares, kind="stable")
    counts[order[: total - int(counts.sum())]] += 1
    return counts


def fill_evenly(total: int, available: IntArray) -> IntArray:
    """How many to take from each of K stocks to have ``total``, as evenly as the stocks ``available`` ``(K,)`` allow.

    A stock smaller than its share is taken whole, and the others make up for it; what does not divide comes from the
    first of those that have more. ``(K,)``; the sum is less than ``total`` only where the stocks have less.
    """
    counts = np.zeros_like(available)
    remaining = min(total, int(available.sum()))
    while remaining:
        open_stocks = np.flatnonzero(counts < available)
        step = max(1, remaining // len(open_stocks))
        for stock in open_stocks[:remaining]:
            taken = min(step, int(available[stock] - counts[stock]), remaining)
            counts[stock] += taken
            remaining -= taken
    return counts


def deal(rows: IntArray, counts: IntArray) -> list[IntArray]:
    """Cut ``rows`` ``(n,)`` into consecutive parts of ``counts`` ``(C,)`` rows; those beyond the sum go to nobody."""
    return list(np.split(rows, np.cumsum(counts))[: len(counts)])


def label_counts(y: IntArray, parts: Sequence[IntArray], classes: int) -> IntArray:
    """How many samples of each of K ``classes`` each part holds, ``(C, K)`` int64; parts are rows of ``y`` ``(N,)``."""
    return np.stack([np.bincount(y[rows], minlength=classes) for rows in parts]).astype(np.int64)


def top_up(parts: Sequence[IntArray], y: IntArray, classes: int, minimum: int) -> list[IntArray]:
    """Move single rows between parts until each has at least ``minimum``; all parts together must have enough.

    A short part receives rows of the class that it holds most of, from the part that has most of that class to spare,
    so that its label distribution changes as little as possible.
    """
    owned, counts_CK = [list(rows) for rows in parts], label_counts(y, parts, classes)
    for short in range(len(owned)):
        while len(owned[short]) < minimum:
            sizes = np.array([len(rows) for rows in owned])
            spare = np.flatnonzero(sizes > minimum)
            favourite = int((counts_CK[short] if owned[short] else counts_CK[sizes.argmax()]).argmax())
            donor = int(spare[np.lexsort((-sizes[spare], -counts_CK[spare, favourite]))[0]])
            wanted = favourite if counts_CK[donor, favourite] else int(counts_CK[donor].argmax())
            row = next(row for row in reversed(owned[donor]) if y[row] == wanted)
            owned[donor].remove(row)
            owned[short].append(row)
            counts_CK[donor, wanted] -= 1
            counts_CK[short, wanted] += 1
    return [np.array(rows, np.int64) for rows in owned]
