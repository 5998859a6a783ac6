"""Flat and tiered averaging in numpy, and runs to hold against it."""

import numpy as np

from strata.engine.federation import Federation
from tests.helpers.arithmetic.softmax import FULL_BATCH, client_arrays, gradient
from tests.helpers.small import small

LR = 0.2
SHARED = (f"method.lr={LR}", f"method.batch_size={FULL_BATCH}", "partition=quantity", "partition.sizes=powerlaw")


def run(method, *words):
    """Parameters before and after, as lists of float64 arrays, and the clients' data."""
    with Federation(small(method, "rounds=2", *SHARED, *words)) as federation:
        names = list(federation.world.algorithm.global_model(federation.rounds.snapshot().server))
        ends = []
        for _ in range(2):
            model = federation.world.algorithm.global_model(federation.rounds.snapshot().server)
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
