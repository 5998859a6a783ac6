"""SCAFFOLD against algorithm 1 of its paper in numpy, and at its limit, where it is FedAvg."""

import numpy as np
import pytest
import torch

from strata.engine.federation import Federation
from tests.helpers.small import small

WORDS = (
    "data=synthetic",
    "data.limit=400",
    "partition=iid",
    "clients.count=4",
    "clients.participation=0.5",
    "model=mclr",
    "method.batch_size=1000",  # all of a client's rows are one batch, so that steps are of the whole gradient
    "method.steps=3",
    "method.lr=0.1",
    "delays.availability=1",
)


def gradient(w, b, x, y):
    """Of the mean cross-entropy of softmax regression, in float64."""
    logits = x @ w.T + b
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    p[np.arange(len(y)), y] -= 1
    return np.concatenate([(p.T @ x / len(y)).ravel(), p.mean(0)])


def in_numpy(federation, cohorts, lr, steps, global_lr):
    """x and c after each round, as flat vectors."""
    world = federation.world
    data = world.data
    start = federation.rounds.snapshot().server.x
    classes, features = start["head.weight"].shape
    x = np.concatenate([start["head.weight"].numpy().ravel(), start["head.bias"].numpy()]).astype(np.float64)
    c, own = np.zeros_like(x), np.zeros((len(data.clients), len(x)))
    for cohort in cohorts:
        models, changes = [], []
        for client in cohort:
            rows = data.clients[client].train
            inputs, labels = data.dataset.x[rows].reshape(len(rows), -1).astype(np.float64), data.dataset.y[rows]
            y = x.copy()
            for _ in range(steps):
                g = gradient(
                    y[: classes * features].reshape(classes, features), y[classes * features :], inputs, labels
                )
                y -= lr * (g - own[client] + c)
            after = own[client] - c + (x - y) / (steps * lr)
            models.append(y)
            changes.append(after - own[client])
            own[client] = after
        x = x + global_lr * (np.mean(models, 0) - x)
        c = c + np.sum(changes, 0) / len(data.clients)
    return x, c


@pytest.mark.parametrize("global_lr", [1.0, 0.5])
def test_rounds_are_those_of_the_papers_algorithm(global_lr):
    with Federation(small("scaffold", *WORDS, "rounds=6", f"method.global_lr={global_lr}")) as federation:
        cohorts, fresh = [], None
        while federation.rounds.snapshot().round < 6:
            cohorts.append(federation.rounds.invite())
            federation.run_round()
        found = federation.rounds.snapshot().server
    assert len({tuple(cohort) for cohort in cohorts}) > 1
    with Federation(small("scaffold", *WORDS, "rounds=6")) as fresh:
        x, c = in_numpy(fresh, cohorts, 0.1, 3, global_lr)
    for params, expected in ((found.x, x), (found.c, c)):
        ours = torch.cat([params["head.weight"].flatten(), params["head.bias"]]).numpy()
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(c).max() > 1e-3


def test_with_one_client_the_correction_is_nothing_and_it_is_fedavg():
    words = ("partition=iid", "clients.count=1", "model=mclr", "method.batch_size=16", "method.lr=0.1", "rounds=3")
    ends = []
    for method in ("scaffold", "fedavg"):
        with Federation(small(method, *words)) as federation:
            list(federation)
            ends.append(federation.world.algorithm.global_model(federation.rounds.snapshot().server))
    for name, value in ends[0].items():
        torch.testing.assert_close(value, ends[1][name], rtol=1e-4, atol=1e-5)
