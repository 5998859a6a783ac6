"""Batch norm's statistics, computed anew on a client's rows: against numpy, and beside the other trainers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from strata.engine.method.length import Length
from strata.engine.method.requests import Recalibrate, Sgd, Train
from strata.engine.models.base import init_params
from strata.engine.models.spec import ModelSpec
from strata.engine.seeding import derive
from strata.engine.training.batched import Batched
from strata.engine.training.batches import calibration_batches
from strata.engine.training.dry import Dry
from strata.engine.training.sequential import Sequential
from strata.engine.tree import fingerprint
from tests.helpers.training import DATA, ROWS, D, K, N, ask

SEED = 1


class Normed(nn.Module):
    """Normalises its inputs, drops half of them in training, and normalises what a layer makes of the rest."""

    def __init__(self, shape, classes):
        super().__init__()
        self.first, self.drop = nn.BatchNorm1d(shape[0], momentum=0.3, affine=False), nn.Dropout(0.5)
        self.middle, self.second = nn.Linear(shape[0], 4), nn.BatchNorm1d(4, momentum=0.3, affine=False)
        self.head = nn.Linear(4, classes)

    def forward(self, x):
        return self.head(self.second(self.middle(self.drop(self.first(x)))))


MODEL = ModelSpec(f"{__name__}:Normed", (D,), K)


def start(value):
    """Parameters whose statistics are this value, as a mixture of other models' may be anything."""
    return {
        name: torch.full_like(held, value) if "running" in name else held
        for name, held in init_params(MODEL, 0).items()
    }


def request(batch_size=5, batches=8, value=7.0):
    return Recalibrate(MODEL, start(value), batch_size, batches)


@pytest.mark.parametrize(("batch_size", "batches", "sizes"), [(5, 8, [5, 5, 2]), (4, 2, [4, 4]), (20, 1, [12])])
def test_statistics_are_the_mean_of_those_of_the_batches(batch_size, batches, sizes):
    """Each layer sees what the ones before make of a batch by the batch's own statistics; variances are unbiased."""
    asked = request(batch_size, batches)
    before = fingerprint(asked.params)
    answer, work = ask(asked, seed=SEED)
    plan = calibration_batches(N, asked, derive(SEED, "request", 0))
    assert [len(positions) for positions in plan] == sizes
    assert len(set(np.concatenate(plan).tolist())) == sum(sizes), "a row comes twice"
    w, b = (asked.params[name].double().numpy() for name in ("middle.weight", "middle.bias"))
    inputs = [DATA.x[positions].astype("f8") for positions in plan]
    hidden = [(x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) @ w.T + b for x in inputs]
    for name, seen in (("first", inputs), ("second", hidden)):
        mean, variance = (answer.params[f"{name}.running_{what}"].numpy() for what in ("mean", "var"))
        np.testing.assert_allclose(mean, np.mean([x.mean(0) for x in seen], 0), atol=1e-5)
        np.testing.assert_allclose(variance, np.mean([x.var(0, ddof=1) for x in seen], 0), rtol=1e-4)
    same = [name for name in answer.params if "running" not in name]
    assert all(torch.equal(answer.params[name], asked.params[name]) for name in same)
    assert fingerprint(asked.params) == before
    assert not any(value.is_inference() for value in answer.params.values())
    assert (work.flops, work.steps, work.samples) == (sum(sizes) * 2 * (D * 4 + 4 * K), 0, 0)


def test_the_statistics_before_do_not_matter():
    (one, _), (other, _) = (ask(request(value=value)) for value in (7.0, -2.0))
    assert fingerprint(one.params) == fingerprint(other.params)


def test_a_client_without_rows_keeps_them():
    answer, work = ask(request(), rows=ROWS[:0])
    assert fingerprint(answer.params) == fingerprint(start(7.0))
    assert work.flops == 0


def test_training_afterwards_is_as_if_nothing_had_been():
    trainer, train = Sequential(DATA), Train(MODEL, start(0.5), Sgd(0.1), 4, Length(steps=3))
    expected, _ = ask(train)
    ask(request(), trainer=trainer)
    found, _ = ask(train, trainer=trainer)
    assert fingerprint(found.params) == fingerprint(expected.params)


def test_other_trainers_cost_the_same_and_what_computes_gives_the_same():
    asked = request()
    expected, work = ask(asked)
    together, alone = ask(asked, trainer=Batched(DATA))
    dry, priced = ask(asked, trainer=Dry(DATA))
    assert fingerprint(together.params) == fingerprint(expected.params)
    assert list(alone.singly.values()) == [1]
    assert fingerprint(dry.params) == fingerprint(asked.params)
    assert alone.flops == priced.flops == work.flops > 0


def test_other_rows_can_be_named():
    answer, _ = ask(replace(request(batch_size=6), split="test"))  # the first six rows, in one batch
    np.testing.assert_allclose(answer.params["first.running_mean"].numpy(), DATA.x[:6].mean(0), atol=1e-5)
