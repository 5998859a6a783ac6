"""Sharing whole numbers out."""

import numpy as np
import pytest

from strata.engine.clock.config import DelayConfig
from strata.engine.clock.delays import client_profiles
from strata.engine.clock.devices import device_classes
from strata.engine.data.apportion import apportion
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
