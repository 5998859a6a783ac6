"""FedAvg, FedProx and h-SGD against numpy, on clients of unequal size, and where they coincide."""

import numpy as np
import pytest

from strata.engine.federation import Federation
from tests.helpers.small import small
from tests.helpers.softmax import FULL_BATCH, client_arrays, gradient

LR = 0.2
SHARED = (f"method.lr={LR}", f"method.batch_size={FULL_BATCH}", "partition=quantity", "partition.sizes=powerlaw")


def run(method, *words):
    """Parameters before and after, as lists of float64 arrays, and the clients' data."""
    with Federation(small(method, "rounds=2", *SHARED, *words)) as federation:
        names = list(federation.world.algorithm.global_model(federation._backend.snapshot().server))
        ends = []
        for _ in range(2):
            model = federation.world.algorithm.global_model(federation._backend.snapshot().server)
            ends.append([model[name].double().numpy().copy() for name in names])
            list(federation)
        return *ends, client_arrays(federation.world.data), federation.world.data.teams


def descend(start, data, steps, mu=0.0):
    w = start
    for _ in range(steps):
        g = gradient(*w, *data)
        w = [v - LR * (gv + mu * (v - s)) for v, gv, s in zip(w, g, start, strict=True)]
    return w


def mean(models, weights):
    return [np.average([m[i] for m in models], axis=0, weights=weights) for i in range(2)]


def assert_close(found, expected, start):
    for a, b, s in zip(found, expected, start, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
        assert abs(a - s).max() > 1e-3, "the comparison would hold for a method that does nothing"


@pytest.mark.parametrize(("method", "mu"), [("fedavg", 0.0), ("fedprox", 0.7)])
def test_flat_methods_weight_clients_by_their_samples(method, mu):
    words = ("method.steps=3", *([f"method.mu={mu}"] if mu else []))
    start, end, clients, _ = run(method, *words)
    sizes = [len(y) for _, y in clients.values()]
    assert max(sizes) > 2 * min(sizes)
    w = start
    for _ in range(2):
        w = mean([descend(w, data, 3, mu) for data in clients.values()], sizes)
    assert_close(end, w, start)


def test_hsgd_takes_uniform_means_twice():
    start, end, clients, teams = run("hsgd", "method.steps=2", "method.team_rounds=3")
    x = start
    for _ in range(2):
        models = []
        for members in teams.values():
            w = x
            for _ in range(3):
                w = mean([descend(w, clients[j], 2) for j in members], None)
            models.append(w)
        x = mean(models, None)
    assert_close(end, x, start)


def test_fedprox_without_a_pull_is_fedavg_to_the_bit():
    words = ("method.batch_size=16", "partition=labels")
    prints = []
    for method, more in (("fedavg", ()), ("fedprox", ("method.mu=0",)), ("fedprox", ("method.mu=0.5",))):
        with Federation(small(method, *words, *more)) as federation:
            list(federation)
            prints.append(federation.world.algorithm.global_model(federation._backend.snapshot().server))
    equal = [all((prints[0][name] == other[name]).all() for name in other) for other in prints]
    assert equal == [True, True, False]
