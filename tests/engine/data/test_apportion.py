"""Sharing whole numbers out."""

import numpy as np
import pytest

from strata.engine.clock.config import DelayConfig
from strata.engine.clock.devices import device_classes
from strata.engine.clock.profiles import client_profiles
from strata.engine.data.apportion import apportion, fill_evenly, top_up
from strata.engine.data.parts import Parts
from strata.engine.seeding import generator


def apportioned_before(total, weights, floor):
    """``apportion`` as it was written before the clock's rule and it became one."""
    rest = total - floor * len(weights)
    shares = rest * (weights / weights.sum() if weights.sum() > 0 else np.full(len(weights), 1 / len(weights)))
    counts = np.floor(shares).astype(np.int64)
    order = np.argsort(-(shares - counts), kind="stable")
    counts[order[: rest - int(counts.sum())]] += 1
    return np.asarray(counts + floor, np.int64)


def classes_before(config, clients, seed):
    """The names of the clients' device classes, by the rule of the clock's own that there was before."""
    names = sorted(config.classes)
    exact = np.array([config.classes[name] for name in names]) / sum(config.classes.values()) * clients
    counts = np.floor(exact).astype(int)
    for index in np.argsort(counts - exact, kind="stable")[: clients - counts.sum()]:
        counts[index] += 1
    dealt = [name for name, count in zip(names, counts, strict=True) for _ in range(count)]
    return [dealt[i] for i in generator(seed, "delays", "classes").permutation(clients)]


def some_weights(draws, count):
    """Weights with many ties (whole numbers, all alike, some 0) as often as without."""
    kind = draws.integers(4)
    if kind == 0:
        return draws.random(count)
    if kind == 1:
        return draws.integers(0, 4, count).astype(np.float64)
    return np.full(count, draws.random() if kind == 2 else 0.0)


@pytest.mark.parametrize("seed", range(200))
def test_shares_are_those_of_the_two_rules_that_this_one_replaced(seed):
    draws = np.random.default_rng(seed)
    weights, floor = some_weights(draws, int(draws.integers(1, 30))), int(draws.integers(3))
    total = floor * len(weights) + int(draws.integers(0, 500))
    assert apportion(total, weights, floor).tolist() == apportioned_before(total, weights, floor).tolist()
    names = list(draws.permutation(list(device_classes(""))))[: int(draws.integers(1, 9))]
    mix = dict(zip(map(str, names), (some_weights(draws, len(names)) + 1e-3).tolist(), strict=True))
    config = DelayConfig(classes=mix)
    clients = int(draws.integers(1, 200))
    dealt = [profile.device for profile in client_profiles(config, clients, seed)]
    assert dealt == classes_before(config, clients, seed)


def test_top_up_takes_the_class_that_the_short_client_holds():
    y = np.array([0] * 10 + [1] * 10)
    parts = [np.array([0]), np.arange(1, 10), np.arange(10, 20)]
    filled = top_up(Parts.of(parts), y, 2, minimum=4)
    assert [len(rows) for rows in filled] == [4, 6, 10]
    assert (y[filled[0]] == 0).all()


def test_apportion_by_largest_remainder():
    assert apportion(10, np.array([1.0, 1.0, 1.0])).tolist() == [4, 3, 3]
    assert apportion(10, np.array([5.0, 3.0, 0.0]), floor=1).tolist() == [5, 4, 1]  # 7·5/8 = 4.375, 7·3/8 = 2.625
    assert apportion(3, np.zeros(2)).tolist() == [2, 1]
    with pytest.raises(ValueError, match=r"3 shares of at least 4 do not fit into 10"):
        apportion(10, np.ones(3), floor=4)


def test_fill_evenly():
    assert fill_evenly(10, np.array([2, 9, 9])).tolist() == [2, 4, 4]
    assert fill_evenly(99, np.array([1, 2])).tolist() == [1, 2]
    assert fill_evenly(2, np.array([5, 5, 5])).tolist() == [1, 1, 0]
