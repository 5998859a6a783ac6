"""Gradients that methods ask for: against numpy, one by one and of many clients at once."""

import numpy as np
import pytest
import torch
from torch import nn

from strata.engine.data.dataset import Dataset
from strata.engine.determinism import single_thread
from strata.engine.errors import TrainingError
from strata.engine.method.requests import Gradient, Work
from strata.engine.models.base import init_params
from strata.engine.models.spec import ModelSpec
from strata.engine.training.batched import Batched
from strata.engine.training.dry import Dry
from strata.engine.training.sequential import Sequential
from strata.engine.training.trainer import Asked, Broken
from strata.engine.tree import fingerprint
from tests.helpers.arithmetic.softmax import gradient
from tests.helpers.training import ask

D, K, N = 6, 4, 700
RNG = np.random.default_rng(4)
DATA = Dataset("made", RNG.normal(size=(N, D)).astype("f4"), RNG.integers(0, K, N), K)
MCLR = ModelSpec("mclr", (D,), K)
MLP = ModelSpec("mlp", (D,), K, (("hidden", (8,)),))
EVERY = np.arange(N)
TRAINERS = {"one by one": Sequential, "together": Batched}


@pytest.fixture(autouse=True)
def as_the_engine_runs_it():
    with single_thread():
        yield


def asked(model=MLP, sizes=(64, 17, 300, 1), **changes):
    rng = np.random.default_rng(5)
    return [
        Asked(
            Gradient(model, init_params(model, client), **changes),
            rng.choice(N, size),
            client,
            f"client {client}",
            Work(),
        )
        for client, size in enumerate(sizes)
    ]


@pytest.mark.parametrize("trainer", TRAINERS.values(), ids=TRAINERS)
@pytest.mark.parametrize("rows", [None, (3, 1, 4, 1), tuple(range(0, N, 2))], ids=["all", "some twice", "two parts"])
def test_it_is_the_mean_over_the_rows(trainer, rows):
    params = init_params(MCLR, 0)
    found, work = ask(Gradient(MCLR, params, rows), trainer=trainer(DATA), rows=EVERY)
    x, y = DATA.x[list(rows or EVERY)].astype(np.float64), DATA.y[list(rows or EVERY)]
    w, b = params["head.weight"].double().numpy(), params["head.bias"].double().numpy()
    dw, db = gradient(w, b, x, y)
    np.testing.assert_allclose(found.gradient["head.weight"].numpy(), dw, atol=1e-6)
    np.testing.assert_allclose(found.gradient["head.bias"].numpy(), db, atol=1e-6)
    logits = x @ w.T + b
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(y)), y]
    assert found.loss == pytest.approx(losses.mean(), rel=1e-6)
    # One forward pass, and one backward pass to the weights: products of n × D × K.
    assert (found.samples, work.samples, work.steps, work.flops) == (len(y), len(y), 0, 2 * 2 * len(y) * D * K)


def test_a_part_of_the_model_is_asked_for_by_name():
    whole, _ = ask(Gradient(MLP, init_params(MLP, 0)), trainer=Sequential(DATA), rows=EVERY)
    part, _ = ask(
        Gradient(MLP, init_params(MLP, 0), trainable=frozenset({"head.bias"})), trainer=Sequential(DATA), rows=EVERY
    )
    assert set(part.gradient) == {"head.bias"}
    torch.testing.assert_close(part.gradient["head.bias"], whole.gradient["head.bias"])
    assert set(whole.gradient) == set(init_params(MLP, 0))


class Half(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.used, self.unused, self.drop = nn.Linear(*shape, classes), nn.Linear(3, 3), nn.Dropout(0.5)

    def forward(self, x):
        return self.used(self.drop(x))


@pytest.mark.parametrize("trainer", TRAINERS.values(), ids=TRAINERS)
def test_what_the_loss_does_not_touch_has_none_and_nothing_is_drawn(trainer):
    model = ModelSpec(f"{__name__}:Half", (D,), K)
    params = init_params(model, 0)
    one, work = ask(Gradient(model, params), trainer=trainer(DATA), rows=EVERY, seed=1)
    other, _ = ask(Gradient(model, params), trainer=trainer(DATA), rows=EVERY, seed=2)
    assert fingerprint(one) == fingerprint(other)
    assert not one.gradient["unused.weight"].any()
    assert one.gradient["used.weight"].any()
    assert not work.singly


def test_of_nothing_it_is_zero():
    found, work = ask(Gradient(MCLR, init_params(MCLR, 0), ()), trainer=Sequential(DATA), rows=EVERY)
    assert not any(value.any() for value in found.gradient.values())
    assert (found.samples, work.flops, np.isnan(found.loss)) == (0, 0, True)


@pytest.mark.parametrize("rows", [(0, N), (-1,), (0.5,), np.ones(N, bool), ((0, 1), (2, 3))])
def test_rows_that_a_client_does_not_have_are_refused(rows):
    with pytest.raises(TrainingError, match=rf"client 3.*rows=.*expected numbers from 0 to {N - 1}.*{N} training"):
        ask(Gradient(MCLR, init_params(MCLR, 0), rows), trainer=Sequential(DATA), rows=EVERY)


@pytest.mark.parametrize("trainer", TRAINERS.values(), ids=TRAINERS)
def test_one_that_is_not_finite_is_named_and_leaves_the_others_alone(trainer):
    every = asked()
    every[2].request.params["head.bias"].fill_(float("inf"))
    made = trainer(DATA).answer(every)
    assert isinstance(made[2], Broken)
    assert isinstance(made[2].error, TrainingError)
    assert "client 2: loss is" in str(made[2].error)
    assert not any(isinstance(one, Broken) for one in (*made[:2], made[3]))


def test_whole_parts_of_dense_models_have_the_bits_of_one_by_one_and_others_come_close():
    alone, together = Sequential(DATA).answer(asked()), Batched(DATA).answer(asked())
    assert fingerprint(together[0]) == fingerprint(alone[0])  # 64 rows: a power of two
    for one, other in zip(alone, together, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-6)
        for name, value in one.gradient.items():
            torch.testing.assert_close(other.gradient[name], value, rtol=1e-4, atol=1e-6)


def test_who_is_beside_never_changes_a_bit():
    every = asked(sizes=(64, 17, 300, 1, 290, 50))
    expected = [fingerprint(one) for one in Batched(DATA).answer(every)]
    assert [fingerprint(Batched(DATA).answer([one])[0]) for one in every] == expected
    assert [fingerprint(one) for one in Batched(DATA).answer(every[::-1])] == expected[::-1]
    assert len(set(expected)) == len(expected)


class Looking(nn.Linear):
    def __init__(self, shape, classes):
        super().__init__(*shape, classes)

    def forward(self, x):
        return super().forward(x) * (2 if float(x.sum()) > 0 else 1)


def test_a_model_that_looks_at_values_is_asked_one_by_one_and_counted():
    every = asked(ModelSpec(f"{__name__}:Looking", (D,), K))
    together = Batched(DATA).answer(every)
    assert all("torch.func cannot batch it" in reason for one in every for reason in one.work.singly)
    assert all(one.work.singly for one in every)
    assert [fingerprint(one) for one in together] == [fingerprint(one) for one in Sequential(DATA).answer(every)]


def test_it_costs_what_was_counted():
    works = []
    for trainer in (Dry, Sequential, Batched):
        every = asked()
        made = trainer(DATA).answer(every)
        works.append([(one.work.flops, one.work.samples, one.work.steps) for one in every])
        assert [{name: value.shape for name, value in one.gradient.items()} for one in made] == [
            {name: value.shape for name, value in one.request.params.items()} for one in every
        ]
    assert works[0] == works[1] == works[2]
    assert works[0][2][:2] == (300 // 64 * works[0][0][0] + 44 * works[0][3][0], 300)  # FLOPs are by sample
