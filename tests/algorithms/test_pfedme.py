"""pFedMe against an independent numpy implementation, and its settings."""

import numpy as np
import pytest

from strata.algorithms.pfedme import PFedMeConfig
from strata.engine.errors import ConfigError
from strata.engine.federation import Federation
from strata.engine.options import check
from tests.helpers.arithmetic.softmax import FULL_BATCH, client_arrays, gradient
from tests.helpers.small import small


def reference(start, clients, *, rounds, R, K, lr, personal_lr, lam, beta):
    w, thetas = start, {}
    for _ in range(rounds):
        uploads = []
        for i, data in clients.items():
            w_i, theta = w, w
            for _ in range(R):
                for _ in range(K):
                    g = gradient(*theta, *data)
                    theta = [t - personal_lr * (gv + lam * (t - v)) for t, gv, v in zip(theta, g, w_i, strict=True)]
                w_i = [v - lr * lam * (v - t) for v, t in zip(w_i, theta, strict=True)]
            uploads.append(w_i)
            thetas[i] = theta
        w = [(1 - beta) * v + beta * np.mean([u[n] for u in uploads], axis=0) for n, v in enumerate(w)]
    return w, thetas


def test_both_models_match_a_numpy_reference():
    settings = {"lr": 0.05, "personal_lr": 0.1, "lam": 3.0, "beta": 0.7}
    words = [f"method.{key}={value}" for key, value in settings.items()]
    steps = ["method.local_steps=3", "method.inner_steps=2", f"method.batch_size={FULL_BATCH}"]
    with Federation(small("pfedme", "rounds=2", *words, *steps)) as federation:
        start = federation.rounds.snapshot().server.w
        list(federation)
        end = federation.rounds.snapshot()
    clients = client_arrays(federation.world.data)
    w, thetas = reference([v.double().numpy() for v in start.values()], clients, rounds=2, R=3, K=2, **settings)
    for n, name in enumerate(start):
        np.testing.assert_allclose(end.server.w[name].numpy(), w[n], atol=1e-6)
        for client in clients:
            np.testing.assert_allclose(end.clients[client].theta[name].numpy(), thetas[client][n], atol=1e-6)
        assert abs(end.server.w[name].numpy() - start[name].numpy()).max() > 1e-3


def test_settings_that_diverge_are_refused():
    with pytest.raises(ConfigError, match="personal_lr·lam = 3 makes models diverge"):
        check(PFedMeConfig(personal_lr=0.2))
