"""The allocation of work whose times lie closest together, found exactly.

# k clients, S sizes, E intensities 1..E
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def tightest(seconds_kSE: NDArray[np.float64], total: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sizes and intensities with the smallest max − min of seconds among all whose intensities sum to ``total``.

    Enumerates every window of times that a best allocation could span: its lower end is one of the times, and its
    upper end the next at which each client can be served so that the intensities add up. Whether they can is a
    subset sum, on the bits of whole numbers, which is formed only for windows that are narrower than the best so far
    and hold a time of every client.

    Args:
        seconds_kSE: seconds of each client at each size, at the intensities 1 to E.
        total: of the intensities.

    Returns:
        sizes ``(k,)`` and intensities ``(k,)``.

    Raises:
        ValueError: when no intensities sum to the total.
    """
    k, _, intensities = seconds_kSE.shape
    if not k <= total <= k * intensities:
        raise ValueError(f"{k} clients with intensities 1 to {intensities} cannot make {total} in all")
    values = np.unique(seconds_kSE)
    ends = _ends(seconds_kSE, values)
    best, window, high = np.inf, (values[0], values[-1]), 0
    for place, low in enumerate(values):
        high = max(high, int(ends[place]))  # what the window of a lower end needed, this one needs too
        while high < len(values) and values[high] - low < best:
            if _reachable(_options(seconds_kSE, low, values[high]), total):
                best, window = values[high] - low, (low, values[high])
                break
            high += 1
    options = _options(seconds_kSE, *window)
    chosen = _trace(options, total)
    fits = (seconds_kSE >= window[0]) & (seconds_kSE <= window[1])
    sizes = [int(np.flatnonzero(fits[client, :, e - 1])[-1]) for client, e in enumerate(chosen)]
    return np.array(sizes), np.array(chosen)


def _ends(seconds_kSE: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Of each of the ascending ``values``, the place of the first up to which every client has a time from there on.

    As many as there are values, where a client has none.
    """
    last = np.zeros(len(values), np.int64)
    for own in seconds_kSE:
        places = np.searchsorted(values, np.unique(own))
        following = np.append(places, len(values))[np.searchsorted(places, np.arange(len(values)))]
        last = np.maximum(last, following)
    return last


def _options(seconds_kSE: NDArray[np.float64], low: float, high: float) -> list[list[int]]:
    """Intensities of each client that some size serves within the window."""
    fits_kSE = (seconds_kSE >= low) & (seconds_kSE <= high)
    return [(np.flatnonzero(fits_SE.any(axis=0)) + 1).tolist() for fits_SE in fits_kSE]


def _sums(options: Sequence[Sequence[int]], total: int) -> list[int]:
    """Bit t of entry i: the first i clients can make t in all."""
    mask = (1 << (total + 1)) - 1
    reached = [1]
    for own in options:
        following = 0
        for intensity in own:
            following |= reached[-1] << intensity
        reached.append(following & mask)
    return reached


def _reachable(options: Sequence[Sequence[int]], total: int) -> bool:
    return all(options) and bool(_sums(options, total)[-1] >> total & 1)


def _trace(options: Sequence[Sequence[int]], total: int) -> list[int]:
    """One choice per client that makes the total, walked back from the end."""
    reached, chosen = _sums(options, total), []
    for client in reversed(range(len(options))):
        used = next(e for e in options[client] if e <= total and reached[client] >> (total - e) & 1)
        chosen.append(used)
        total -= used
    return chosen[::-1]
