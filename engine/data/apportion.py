"""Whole numbers of samples: sharing a total out by weight, evenly, or with a guaranteed minimum.

# C clients, K classes
"""

from collections.abc import Sequence
from heapq import heapify, heappop, heapreplace

import numpy as np
from numpy.typing import NDArray

from strata.engine.data.dataset import IntArray
from strata.engine.data.parts import Parts


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
    total_weight = np.add.reduce(weights)
    shares = rest * (weights / total_weight if total_weight > 0 else np.full(len(weights), 1 / len(weights)))
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


def balanced_rows(y: IntArray, rows: IntArray, size: int, classes: int, draws: np.random.Generator) -> IntArray:
    """``size`` of ``rows``, spread over the classes ``y`` (N,) of all rows as evenly as they allow."""
    counts = fill_evenly(size, np.bincount(y[rows], minlength=classes))
    picked = [draws.choice(rows[y[rows] == k], count, replace=False) for k, count in enumerate(counts) if count]
    return np.concatenate(picked) if picked else np.empty(0, np.int64)


def label_counts(y: IntArray, parts: Sequence[IntArray], classes: int) -> IntArray:
    """How many samples of each of K ``classes`` each part holds, ``(C, K)`` int64; parts are rows of ``y`` ``(N,)``."""
    held = parts if isinstance(parts, Parts) else Parts.of(parts)
    cells = held.owners * classes + y[held.rows]
    return np.bincount(cells, minlength=len(held) * classes).reshape(len(held), classes).astype(np.int64)


def top_up(parts: Parts, y: IntArray, classes: int, minimum: int) -> Parts:
    """Move single rows between parts until each has at least ``minimum``; all parts together must have enough.

    A short part receives rows of the class that it holds most of, from the part that has most of that class to spare,
    so that its label distribution changes as little as possible.
    """
    short = np.flatnonzero(parts.sizes < minimum).tolist()
    if not short:
        return parts
    stock = _Stock(parts, y, classes, minimum)
    for part in short:
        stock.fill(part)
    return Parts.of([stock.rows(part) for part in range(len(parts))])


class _Stock:
    """Parts while rows move between them.

    Who has most to spare of a class is found in a heap. What a part has to spare only shrinks, so an entry that is
    out of date promises too much: it comes up too early, is corrected then, and never too late.
    """

    def __init__(self, parts: Parts, y: IntArray, classes: int, minimum: int) -> None:
        self._parts, self._y, self._minimum = parts, y, minimum
        self._sizes, self._counts_CK = parts.sizes, label_counts(y, parts, classes)
        self._heaps: dict[int, list[tuple[int, int, int]]] = {}
        self._owned: dict[int, list[int]] = {}

    def fill(self, short: int) -> None:
        """Give a part rows until it has the minimum."""
        mine = self._own(short)
        while len(mine) < self._minimum:
            favourite = int((self._counts_CK[short] if mine else self._counts_CK[self._sizes.argmax()]).argmax())
            donor = self._donor(favourite)
            wanted = favourite if self._counts_CK[donor, favourite] else int(self._counts_CK[donor].argmax())
            theirs = self._own(donor)
            row = next(row for row in reversed(theirs) if self._y[row] == wanted)
            theirs.remove(row)
            mine.append(row)
            for part, change in ((donor, -1), (short, 1)):
                self._sizes[part] += change
                self._counts_CK[part, wanted] += change

    def rows(self, part: int) -> IntArray:
        """What a part holds now, ``(n,)``."""
        return np.array(self._owned[part], np.int64) if part in self._owned else self._parts[part]

    def _own(self, part: int) -> list[int]:
        return self._owned.setdefault(part, self._parts[part].tolist())

    def _donor(self, label: int) -> int:
        """The part that has most of a class among those above the minimum; of equals the larger, then the first."""
        if label not in self._heaps:
            above = np.flatnonzero(self._sizes > self._minimum).tolist()
            self._heaps[label] = [self._entry(part, label) for part in above]
            heapify(self._heaps[label])
        heap = self._heaps[label]
        while True:
            part = heap[0][2]
            if self._sizes[part] <= self._minimum:
                heappop(heap)
            elif heap[0] != (now := self._entry(part, label)):
                heapreplace(heap, now)
            else:
                return part

    def _entry(self, part: int, label: int) -> tuple[int, int, int]:
        return -int(self._counts_CK[part, label]), -int(self._sizes[part]), part
