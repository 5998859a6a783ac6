"""Steps that look ahead, as Per-FedAvg's: against closed forms and numpy, one by one and of many clients at once."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from strata.engine.data.dataset import Dataset
from strata.engine.determinism import single_thread
from strata.engine.errors import TrainingError
from strata.engine.method.length import Length
from strata.engine.method.requests import AdamW, Cosine, Pull, Sgd, Train, Work
from strata.engine.models.base import init_params
from strata.engine.models.spec import ModelSpec
from strata.engine.seeding import derive
from strata.engine.training.batched import Batched
from strata.engine.training.batches import AHEAD, plan_batches
from strata.engine.training.dry import Dry
from strata.engine.training.sequential import Sequential
from strata.engine.training.trainer import Asked
from strata.engine.tree import fingerprint
from tests.helpers.arithmetic.softmax import gradient
from tests.helpers.training import ask

D, K, N = 6, 4, 90
RNG = np.random.default_rng(6)
DATA = Dataset("made", RNG.normal(size=(N, D)).astype("f4"), RNG.integers(0, K, N), K)
MCLR = ModelSpec("mclr", (D,), K)
MLP = ModelSpec("mlp", (D,), K, (("hidden", (8,)),))
EVERY = np.arange(N)
ALPHA, BETA = 0.3, 0.2


@pytest.fixture(autouse=True)
def as_the_engine_runs_it():
    with single_thread():
        yield


def quadratic(model, batch):
    """½‖θ‖², whatever the data: its gradient is θ."""
    return sum((p**2).sum() for p in model.parameters()) / 2 + 0 * model(batch.x).sum(1)


def train(model=MCLR, **changes):
    request = Train(model, init_params(model, 0), Sgd(BETA), 20, Length(steps=7), look_ahead=ALPHA)
    return replace(request, **changes)


def test_the_gradient_is_taken_ahead():
    answer, _ = ask(train(loss=quadratic), trainer=Sequential(DATA), rows=EVERY)
    for name, value in init_params(MCLR, 0).items():
        torch.testing.assert_close(answer.params[name], value * (1 - BETA * (1 - ALPHA)) ** 7)  # w − β (1 − α) w


def test_pulls_and_corrections_are_of_where_the_step_begins():
    start = init_params(MCLR, 0)
    to = {name: torch.full_like(value, 2.0) for name, value in start.items()}
    correction = {"head.bias": torch.full((K,), 3.0)}
    request = train(loss=quadratic, length=Length(steps=1), pull=(Pull(to, 0.5),), correction=correction)
    answer, _ = ask(request, trainer=Sequential(DATA), rows=EVERY)
    for name, value in start.items():
        expected = value - BETA * ((1 - ALPHA) * value + 0.5 * (value - 2) + 3 * (name == "head.bias"))
        torch.testing.assert_close(answer.params[name], expected)


def test_two_batches_are_drawn_apart_and_the_loss_is_that_of_the_second():
    request = train()
    ahead, plain = (plan_batches(N, request, 5, *purpose) for purpose in ((AHEAD,), ()))
    assert [len(batch) for batch in ahead] == [len(batch) for batch in plain] == [20, 20, 20, 20, 10, 20, 20]
    assert all(set(one.tolist()) != set(other.tolist()) for one, other in zip(ahead, plain, strict=True))
    drawn = derive(1, "request", 0)
    answer, _ = ask(request, trainer=Sequential(DATA), rows=EVERY, seed=1)
    start = init_params(MCLR, 0)
    w, b, losses = start["head.weight"].double().numpy(), start["head.bias"].double().numpy(), []
    for first, second in zip(plan_batches(N, request, drawn, AHEAD), plan_batches(N, request, drawn), strict=True):
        dw, db = gradient(w, b, DATA.x[first], DATA.y[first])
        w_ahead, b_ahead = w - ALPHA * dw, b - ALPHA * db
        logits = DATA.x[second] @ w_ahead.T + b_ahead
        losses.append((np.log(np.exp(logits).sum(1)) - logits[np.arange(len(second)), DATA.y[second]]).mean())
        dw, db = gradient(w_ahead, b_ahead, DATA.x[second], DATA.y[second])
        w, b = w - BETA * dw, b - BETA * db
    np.testing.assert_allclose(answer.params["head.weight"].numpy(), w, atol=1e-6)
    np.testing.assert_allclose(answer.params["head.bias"].numpy(), b, atol=1e-6)
    assert answer.loss == pytest.approx(np.mean(losses), rel=1e-5)
    assert answer.steps == 7


def test_where_it_looks_nowhere_it_is_a_plain_step():
    plain, _ = ask(train(look_ahead=0.0), trainer=Sequential(DATA), rows=EVERY)
    nearly, _ = ask(train(look_ahead=1e-9), trainer=Sequential(DATA), rows=EVERY)
    for name, value in plain.params.items():
        torch.testing.assert_close(nearly.params[name], value)


@pytest.mark.parametrize("look_ahead", [-0.1, float("nan")])
def test_a_step_back_is_refused(look_ahead):
    with pytest.raises(TrainingError, match=r"look_ahead=.*expected a step size ≥ 0"):
        train(look_ahead=look_ahead)


def test_it_costs_two_batches_a_step_and_that_is_what_is_counted():
    works = []
    for trainer in (Dry, Sequential, Batched):
        _, work = ask(train(length=Length(epochs=2)), trainer=trainer(DATA), rows=EVERY)
        works.append((work.flops, work.samples, work.steps))
    # 90 rows by 20: five steps a pass. A batch of a linear model is two products of 2·B·D·K.
    assert works == [(2 * 180 * 2 * 2 * D * K, 2 * 180, 10)] * 3


def asked(sizes, model=MLP, **changes):
    rng = np.random.default_rng(7)
    return [
        Asked(
            replace(train(model, **changes), start=init_params(model, client)),
            rng.choice(N, size, replace=False),
            client,
            f"client {client}",
            Work(),
        )
        for client, size in enumerate(sizes)
    ]


CHANGES = {
    "plain": {},
    "momentum": {"optimizer": Sgd(BETA, 0.9, 0.01)},
    "AdamW, and all else": {"optimizer": AdamW(1e-2), "clip_norm": 0.5, "schedule": Cosine(0.1)},
    "a part": {"trainable": frozenset({"head.weight", "head.bias"})},
    "two batches again and again": {"repeat_batch": True},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_dense_models_get_the_bits_that_they_get_one_by_one(change):
    alone = Sequential(DATA).answer(asked([20, 40, 80, 20], **change))
    every = asked([20, 40, 80, 20], **change)
    together = Batched(DATA).answer(every)
    assert [fingerprint(one) for one in together] == [fingerprint(one) for one in alone]
    assert not any(one.work.singly for one in every)
    plain = Sequential(DATA).answer(asked([20, 40, 80, 20], **{**change, "look_ahead": 0.0}))
    assert all(fingerprint(one) != fingerprint(other) for one, other in zip(alone, plain, strict=True))


def test_who_is_beside_never_changes_a_bit():
    every = asked([17, 3, 50, 1, 28, 9], length=Length(epochs=2))
    expected = [fingerprint(one) for one in Batched(DATA).answer(every)]
    assert [fingerprint(Batched(DATA).answer([one])[0]) for one in every] == expected
    assert [fingerprint(one) for one in Batched(DATA).answer(every[::-1])] == expected[::-1]
    for one, other in zip(Sequential(DATA).answer(every), Batched(DATA).answer(every), strict=True):
        for name, value in one.params.items():
            torch.testing.assert_close(other.params[name], value, rtol=1e-4, atol=1e-4)


def test_plain_steps_and_those_that_look_ahead_are_not_taken_for_each_other():
    mixed = [*asked([20, 40]), *asked([20, 40], look_ahead=0.0), *asked([20, 40], look_ahead=0.1)]
    assert [fingerprint(one) for one in Batched(DATA).answer(mixed)] == [
        fingerprint(one) for one in Sequential(DATA).answer(mixed)
    ]


@dataclass(frozen=True)
class Adagrad:
    lr: float

    def make(self, params):
        return torch.optim.Adagrad(params, self.lr)


def test_an_optimiser_of_ones_own_looks_ahead_one_by_one_and_is_counted():
    every = asked([20, 30], optimizer=Adagrad(0.1))
    together = Batched(DATA).answer(every)
    assert [one.work.singly for one in every] == [{"Adagrad is an optimiser of one's own": 1}] * 2
    start = every[0].request.start
    (made,) = Sequential(DATA).answer(asked([20], loss=quadratic, length=Length(steps=1), optimizer=Adagrad(0.1)))
    ahead = torch.nn.Parameter(start["head.bias"].clone())
    ahead.grad = (1 - ALPHA) * start["head.bias"]
    torch.optim.Adagrad([ahead], 0.1).step()
    torch.testing.assert_close(made.params["head.bias"], ahead.detach())
    assert fingerprint(together[0]) == fingerprint(Sequential(DATA).answer(asked([20], optimizer=Adagrad(0.1)))[0])
