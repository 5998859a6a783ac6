"""The tightest allocation against every allocation there is."""

import itertools

import numpy as np
import pytest

from strata.algorithms.controls.allocation import tightest


def brute_force(seconds_kSE, total):
    """The smallest max − min over all sizes and intensities that add up."""
    k, sizes, intensities = seconds_kSE.shape
    plans = itertools.product(range(sizes), range(intensities))
    best = np.inf
    for plan in itertools.product(list(plans), repeat=k):
        if sum(e + 1 for _, e in plan) == total:
            times = [seconds_kSE[client, s, e] for client, (s, e) in enumerate(plan)]
            best = min(best, max(times) - min(times))
    return best


def spread_of(seconds_kSE, sizes, intensities):
    times = seconds_kSE[np.arange(len(sizes)), sizes, intensities - 1]
    return times.max() - times.min()


@pytest.mark.parametrize("seed", range(25))
def test_nothing_is_tighter_than_what_is_found(seed):
    rng = np.random.default_rng(seed)
    k, sizes, intensities = rng.integers(1, 5), rng.integers(1, 4), rng.integers(1, 5)
    k = min(k, 3) if sizes * intensities > 8 else k
    total = int(rng.integers(k, k * intensities + 1))
    # Any times at all; or those of a real federation, which grow with the size and with the intensity.
    seconds = rng.random((k, sizes, intensities))
    if seed % 2:
        grow = np.arange(1, intensities + 1) * np.arange(1, sizes + 1)[:, None]
        seconds = rng.lognormal(size=(k, 1, 1)) * grow + rng.random((k, 1, 1))
    chosen, worked = tightest(seconds, total)
    assert chosen.shape == worked.shape == (k,)
    assert worked.sum() == total
    assert worked.min() >= 1
    assert worked.max() <= intensities
    assert 0 <= chosen.min() <= chosen.max() < sizes
    assert spread_of(seconds, chosen, worked) == brute_force(seconds, total)


def test_equal_clients_share_equally():
    seconds = np.tile(np.arange(1.0, 6.0), (4, 1, 1))
    sizes, worked = tightest(seconds, 12)
    assert worked.tolist() == [3, 3, 3, 3]
    assert sizes.tolist() == [0, 0, 0, 0]


def test_of_equally_tight_sizes_the_largest_is_taken():
    sizes, _ = tightest(np.ones((2, 3, 2)), 3)
    assert sizes.tolist() == [2, 2]


@pytest.mark.parametrize("total", [2, 13])
def test_a_total_that_cannot_be_is_refused(total):
    with pytest.raises(ValueError, match=f"3 clients with intensities 1 to 4 cannot make {total} in all"):
        tightest(np.ones((3, 2, 4)), total)
