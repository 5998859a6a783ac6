"""AdamW, label smoothing and the cosine against their equations, and the limit on cached modules."""

import math

import numpy as np
import pytest
import torch

from strata.engine.method.length import Length
from strata.engine.method.local import LocalSgd, LocalTraining
from strata.engine.method.losses import Batch, SmoothedCrossEntropy, cross_entropy
from strata.engine.method.requests import AdamW, Evaluate, Sgd
from strata.engine.training.sequential import Sequential
from strata.engine.tree import count_bytes
from tests.helpers.arithmetic.linear import DATA, ROWS, K, X, Y, arrays, backward, forward, fresh, softmax, spec
from tests.helpers.training import lead

FULL = 100  # more samples than there are


def trained(config, start, steps, round=1):
    def client():
        return (yield config.train_in(round, spec(), start, Length(steps=steps)))

    return lead(Sequential(DATA), client(), ROWS, ROWS, 0, "client 0")[0].params


def smoothed_error(z, smoothing):
    """Gradient of the smoothed cross-entropy by the logits: p minus the smoothed labels."""
    target = np.full(z.shape, smoothing / K)
    target[np.arange(len(Y)), Y] += 1 - smoothing
    return (softmax(z) - target) / len(Y)


def test_adamw_with_smoothed_labels_matches_numpy():
    lr, decay, smoothing = 0.01, 0.3, 0.2
    config = LocalTraining(lr=lr, weight_decay=decay, batch_size=FULL, optimizer="adamw", label_smoothing=smoothing)
    start = fresh(spec())
    w = arrays(start)
    m = {name: np.zeros_like(value) for name, value in w.items()}
    v = {name: np.zeros_like(value) for name, value in w.items()}
    for step in (1, 2, 3):
        gradient = backward(w, smoothed_error(forward(w, X)[1], smoothing))
        for name, g in gradient.items():
            m[name], v[name] = 0.9 * m[name] + 0.1 * g, 0.999 * v[name] + 0.001 * g * g
            ratio = m[name] / (1 - 0.9**step) / (np.sqrt(v[name] / (1 - 0.999**step)) + 1e-8)
            w[name] = w[name] * (1 - lr * decay) - lr * ratio
    for name, value in trained(config, start, 3).items():
        np.testing.assert_allclose(value.numpy(), w[name], atol=1e-5)


def test_the_learning_rate_falls_along_a_cosine():
    config = LocalTraining(lr=0.4, cosine_rounds=4, momentum=0.5, weight_decay=0.1)
    cosine = [0.4, 0.2 * (1 + math.sqrt(0.5)), 0.2, 0.2 * (1 - math.sqrt(0.5)), 0.0, 0.0]
    asked = [config.train_in(round, spec(), {}, Length(1)).optimizer for round in range(1, 7)]
    assert [one.lr for one in asked] == pytest.approx(cosine, abs=1e-12)
    assert {(type(one), one.momentum, one.weight_decay) for one in asked} == {(Sgd, 0.5, 0.1)}
    assert LocalTraining(lr=0.4).lr_in(99) == 0.4


def test_without_its_own_settings_it_is_local_sgd():
    plain, extended = LocalSgd(momentum=0.3), LocalTraining(momentum=0.3)
    assert extended.train_in(5, spec(), {}, Length(2)) == plain.train(spec(), {}, Length(2))
    assert extended.train_in(5, spec(), {}, Length(2), batch_size=7).batch_size == 7
    assert LocalTraining(optimizer="adamw", weight_decay=0.2).train_in(1, spec(), {}, Length(1)).optimizer == AdamW(
        0.01, 0.2
    )
    assert [c.optimizer_values for c in (LocalTraining(), extended, LocalTraining(optimizer="adamw"))] == [0, 1, 2]


def test_a_length_is_counted_in_epochs_only_where_steps_are_0():
    both, epochs = Length.of({"epochs": 3, "steps": 4, "size": 1}), LocalSgd(epochs=3).length
    assert (both, epochs) == (Length(3, 4), Length(epochs=3))
    assert [(one.unit, one.count, one.in_steps(7)) for one in (both, epochs)] == [("steps", 4, 4), ("epochs", 3, 21)]
    assert count_bytes(both) == 16  # two numbers


def test_smoothing_by_nothing_is_cross_entropy():
    module, batch = spec().build(), Batch(torch.from_numpy(DATA.x), torch.from_numpy(Y))
    torch.testing.assert_close(SmoothedCrossEntropy(0.0)(module, batch), cross_entropy(module, batch))


def test_only_the_modules_used_last_are_kept(monkeypatch):
    monkeypatch.setattr("strata.engine.training.modules.MODULES_KEPT", 2)
    cached = Sequential(DATA)
    kept = []
    sizes = [spec(width=width) for width in (3, 4, 5)]

    def client(one):
        return (yield Evaluate(one, fresh(one)))

    for number in (0, 1, 0, 2, 0, 1):
        lead(cached, client(sizes[number]), ROWS, ROWS, 0, "client 0")
        kept.append({sizes.index(model) for model in cached._modules._kept})
    assert kept == [{0}, {0, 1}, {0, 1}, {0, 2}, {0, 2}, {0, 1}]
