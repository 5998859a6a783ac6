"""Modules with something of their own: draws, counters and modes, which no request leaves behind for the next."""

from dataclasses import replace
from itertools import groupby

import numpy as np
import pytest
import torch
from torch import nn

from strata.engine.errors import TrainingError
from strata.engine.method.losses import Batch, cross_entropy
from strata.engine.method.requests import Length, Pull, Sgd, Train
from strata.engine.models.base import init_params
from strata.engine.models.spec import ModelSpec
from strata.engine.training.sequential import Sequential
from strata.engine.tree import fingerprint
from tests.helpers.training import DATA, D, K, N, ask


class Drawing(nn.Module):
    """A user's model: functional dropout, a branch on a value, and a layer that the output does not use."""

    def __init__(self, shape, classes):
        super().__init__()
        self.head = nn.Linear(*shape, classes)
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        x = nn.functional.dropout(x, 0.5, self.training)
        return self.head(x) if float(x.abs().sum()) > 0 else self.head(x) * 2


DRAWING = ModelSpec(f"{__name__}:Drawing", (D,), K)


def test_whatever_a_model_draws_is_derived():
    request = Train(DRAWING, init_params(DRAWING, 0), Sgd(0.5), batch_size=4, length=Length(steps=5))
    first, _ = ask(request)
    torch.rand(3)
    second, _ = ask(request)
    other, _ = ask(request, seed=2)
    assert fingerprint(first.params) == fingerprint(second.params) != fingerprint(other.params)


class Counting(nn.Module):
    """A user's model whose batch norm averages over all batches so far, by an integer counter."""

    def __init__(self, shape, classes):
        super().__init__()
        self.norm = nn.BatchNorm1d(*shape, momentum=None)
        self.head = nn.Linear(*shape, classes)

    def forward(self, x):
        return self.head(self.norm(x))


def test_one_clients_counters_do_not_reach_the_next():
    spec = ModelSpec(f"{__name__}:Counting", (D,), K)
    request = Train(spec, init_params(spec, 0), Sgd(0.1), batch_size=4, length=Length(steps=3))
    alone, _ = ask(request)
    trainer = Sequential(DATA)
    ask(request, seed=9, trainer=trainer)
    after_another, _ = ask(request, trainer=trainer)
    assert fingerprint(after_another.params) == fingerprint(alone.params)


COUNTING = ModelSpec(f"{__name__}:Counting", (D,), K)
HEAD = frozenset({"head.weight", "head.bias"})


def test_what_is_frozen_is_in_evaluation_mode_for_the_request_and_no_longer():
    modes = []

    def watched(model: nn.Module, batch: Batch) -> torch.Tensor:
        modes.append((model.training, model.norm.training, model.head.training))
        return cross_entropy(model, batch)

    trainer, start = Sequential(DATA), init_params(COUNTING, 0)
    request = Train(COUNTING, start, Sgd(0.1), batch_size=N, length=Length(steps=1), loss=watched)
    ask(request, trainer=trainer)
    still, _ = ask(replace(request, trainable=HEAD, frozen=("norm",)), trainer=trainer)
    moved, _ = ask(replace(request, trainable=HEAD), trainer=trainer)
    # A request's step is traced for its FLOPs before it is made, in the same modes.
    assert [mode for mode, _ in groupby(modes)] == [(True, True, True), (True, False, True), (True, True, True)]
    assert torch.equal(still.params["norm.running_mean"], start["norm.running_mean"])
    np.testing.assert_allclose(moved.params["norm.running_mean"].numpy(), DATA.x.mean(0), atol=1e-6)


def test_a_frozen_batch_norm_takes_a_batch_of_one_and_its_flops_are_counted():
    request = Train(COUNTING, init_params(COUNTING, 0), Sgd(0.1), batch_size=1, length=Length(steps=2), trainable=HEAD)
    with pytest.raises(TrainingError, match="round 7: a batch has a single sample"):
        ask(request)
    _, work = ask(replace(request, frozen=("norm",)))
    assert work.flops == 2 * 2 * (2 * D * K)  # two steps: forward, and the gradient of the weights
    with pytest.raises(ValueError, match="frozen=norms: the model has no such submodule"):
        ask(replace(request, frozen=("norms",)))


def test_flops_of_a_model_that_looks_at_values_are_counted():
    _, work = ask(Train(DRAWING, init_params(DRAWING, 0), Sgd(0.5), batch_size=4, length=Length(steps=1)))
    assert work.flops == 2 * (2 * 4 * D * K)


def test_a_pull_leaves_a_parameter_alone_that_the_loss_does_not_touch():
    start = init_params(DRAWING, 0)
    to = {name: torch.zeros_like(value) for name, value in start.items()}
    answer, _ = ask(Train(DRAWING, start, Sgd(0.5), batch_size=4, length=Length(steps=1), pull=(Pull(to, 1.0),)))
    assert torch.equal(answer.params["unused.weight"], start["unused.weight"])
    assert not torch.equal(answer.params["head.weight"], start["head.weight"])


def test_dropout_is_derived_and_leaves_the_global_generator_alone(monkeypatch):
    from strata.engine.models import spec as models

    def with_dropout(shape, classes):
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(D, classes))

    monkeypatch.setattr(models, "MODELS", {**models.MODELS, "dropout": with_dropout})
    spec = ModelSpec("dropout", (D,), K)
    request = Train(spec, init_params(spec, 0), Sgd(0.5), batch_size=4, length=Length(steps=5))
    before = torch.get_rng_state()
    first, _ = ask(request)
    torch.rand(3)
    second, _ = ask(request)
    other, _ = ask(request, seed=2)
    assert fingerprint(first.params) == fingerprint(second.params) != fingerprint(other.params)
    torch.set_rng_state(before)
    ask(request)
    assert torch.equal(torch.get_rng_state(), before)
