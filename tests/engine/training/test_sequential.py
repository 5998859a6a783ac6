"""The trainer against closed forms."""

from dataclasses import replace
from itertools import groupby
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from torch import nn

from strata.engine.data.dataset import Dataset
from strata.engine.errors import ResourceError, TrainingError
from strata.engine.method.algorithm import Algorithm
from strata.engine.method.length import Length
from strata.engine.method.losses import Batch, cross_entropy
from strata.engine.method.messages import ClientStep
from strata.engine.method.requests import Evaluate, Pull, Represent, Request, Sgd, Train
from strata.engine.models.base import init_params
from strata.engine.models.spec import ModelSpec
from strata.engine.training.batches import plan_batches
from strata.engine.training.conversation import Conversation
from strata.engine.training.device import resolve_device
from strata.engine.training.sequential import Sequential
from strata.engine.tree import fingerprint
from tests.helpers.training import lead

D, K, N = 5, 3, 12
RNG = np.random.default_rng(0)
DATA = Dataset("toy", RNG.normal(size=(N, D)).astype("f4"), np.arange(N) % K, K)
SPEC = ModelSpec("mclr", (D,), K)
ROWS = np.arange(N)


def quadratic(model: nn.Module, batch: Batch) -> torch.Tensor:
    """½‖θ‖², whatever the data: its gradient is θ, so SGD has a closed form."""
    return sum((p**2).sum() for p in model.parameters()) / 2 + 0 * model(batch.x).sum(1)


def exploding(model: nn.Module, batch: Batch) -> torch.Tensor:
    return quadratic(model, batch) * batch.constants["factor"]


def ask(request, seed=1, trainer=None, rows=ROWS):
    def steps():
        return (yield request)

    return lead((trainer or Sequential(DATA)), steps(), rows, rows[:6], seed, "client 3 (team 1), round 7")


def train(**changes):
    settings = {"length": Length(steps=4), "loss": quadratic, "batch_size": 4, "optimizer": Sgd(0.1)} | changes
    return Train(SPEC, init_params(SPEC, 0), **settings)


def test_plain_sgd_on_a_quadratic():
    answer, _ = ask(train())
    start = init_params(SPEC, 0)
    for name, value in answer.params.items():
        torch.testing.assert_close(value, start[name] * 0.9**4)  # θ ← θ − 0.1 θ, four times


def test_momentum_and_weight_decay():
    answer, _ = ask(train(length=Length(steps=2), optimizer=Sgd(0.1, momentum=0.5, weight_decay=1.0)))
    theta, velocity = 1.0, 0.0
    for _ in range(2):
        velocity = 0.5 * velocity + (theta + 1.0 * theta)
        theta -= 0.1 * velocity
    start = init_params(SPEC, 0)
    torch.testing.assert_close(answer.params["head.weight"], start["head.weight"] * theta)


def test_a_pull_adds_its_gradient_exactly():
    start = init_params(SPEC, 0)
    to = {name: torch.full_like(value, 2.0) for name, value in start.items()}
    answer, _ = ask(train(length=Length(steps=1), pull=(Pull(to, 0.5),)))
    for name, value in answer.params.items():
        torch.testing.assert_close(value, start[name] - 0.1 * (start[name] + 0.5 * (start[name] - 2)))


def test_frozen_parameters_stay():
    start = init_params(SPEC, 0)
    answer, _ = ask(train(trainable=frozenset({"head.bias"})))
    assert torch.equal(answer.params["head.weight"], start["head.weight"])
    assert not torch.equal(answer.params["head.bias"], start["head.bias"])


def test_a_frozen_request_does_not_leak_into_the_next():
    trainer = Sequential(DATA)
    ask(train(trainable=frozenset({"head.bias"})), trainer=trainer)
    answer, _ = ask(train(), trainer=trainer)
    torch.testing.assert_close(answer.params["head.weight"], init_params(SPEC, 0)["head.weight"] * 0.9**4)


def test_work_is_counted():
    _, work = ask(train(length=Length(epochs=2), batch_size=5))
    assert (work.steps, work.samples) == (6, 24)  # 12 samples in batches of 5, 5, 2; twice


def test_what_a_trainer_keeps_is_bounded_and_changes_nothing(monkeypatch):
    monkeypatch.setattr("strata.engine.training.flops.FLOPS_KEPT", 2)
    monkeypatch.setattr("strata.engine.training.sequential.MODULES_KEPT", 2)
    trainer = Sequential(DATA)
    for size in (1, 2, 3, 4, 1):
        spec = ModelSpec("mlp", (D,), K, (("hidden", (size,)),))
        request = Train(spec, init_params(spec, 0), Sgd(0.1), batch_size=4, length=Length(steps=1))
        kept, work = ask(request, trainer=trainer)
        anew, expected = ask(request)
        assert (fingerprint(kept), work) == (fingerprint(anew), expected)
    assert (len(trainer._flops), len(trainer._modules)) == (2, 2)


def test_flops_are_those_of_the_matrix_products():
    _, work = ask(train(length=Length(steps=1), batch_size=4, loss=cross_entropy))
    forward = 2 * 4 * D * K  # B × D × K multiplications and additions
    weight_gradient = 2 * 4 * D * K  # the input needs no gradient
    assert work.flops == forward + weight_gradient


def test_cross_entropy_training_matches_numpy():
    answer, _ = ask(Train(SPEC, init_params(SPEC, 0), Sgd(0.5), batch_size=N, length=Length(steps=3)))
    start = init_params(SPEC, 0)
    w, b = start["head.weight"].double().numpy(), start["head.bias"].double().numpy()
    for _ in range(3):
        p = np.exp(DATA.x @ w.T + b)
        p /= p.sum(1, keepdims=True)
        p[np.arange(N), DATA.y] -= 1
        w, b = w - 0.5 * p.T @ DATA.x / N, b - 0.5 * p.mean(0)
    np.testing.assert_allclose(answer.params["head.weight"].numpy(), w, atol=1e-6)
    np.testing.assert_allclose(answer.params["head.bias"].numpy(), b, atol=1e-6)


def test_batches_cover_each_pass_once_and_depend_on_the_seed_alone():
    request = train(length=Length(epochs=3), batch_size=5)
    plan = plan_batches(N, request, 1)
    assert [len(batch) for batch in plan] == [5, 5, 2] * 3
    for first in (0, 3, 6):
        assert sorted(np.concatenate(plan[first : first + 3])) == list(range(N))
    again = plan_batches(N, request, 1)
    assert all((a == b).all() for a, b in zip(plan, again, strict=True))
    assert any((a != b).any() for a, b in zip(plan, plan_batches(N, request, 2), strict=True))


def test_a_repeated_batch_is_one_batch_drawn_by_the_seed():
    request = train(length=Length(steps=3), batch_size=5, repeat_batch=True)
    plan = plan_batches(N, request, 1)
    assert [batch.tolist() for batch in plan] == [plan[0].tolist()] * 3
    assert len(set(plan[0].tolist())) == 5
    assert plan[0].tolist() != plan_batches(N, request, 2)[0].tolist()


def test_evaluation_counts():
    params = {"head.weight": torch.zeros(K, D), "head.bias": torch.tensor([0.0, 1.0, 0.0])}
    answer, work = ask(Evaluate(SPEC, params, split="test"))
    assert (answer.correct, answer.samples) == (2, 6)  # always class 1; six test rows with classes 0 1 2 0 1 2
    log_sum = np.log(2 + np.e)
    assert answer.loss_sum == pytest.approx(4 * log_sum + 2 * (log_sum - 1), rel=1e-6)
    assert work.flops == 0


def test_evaluation_does_not_depend_on_its_batches():
    params = init_params(SPEC, 3)
    one, _ = ask(Evaluate(SPEC, params), trainer=Sequential(DATA, evaluation_batch=1))
    all_, _ = ask(Evaluate(SPEC, params), trainer=Sequential(DATA, evaluation_batch=100))
    assert one.correct == all_.correct
    assert one.loss_sum == pytest.approx(all_.loss_sum, rel=1e-6)


@pytest.mark.parametrize("evaluation_batch", [1, 5, 100])
def test_features_are_averaged_by_class(evaluation_batch):
    spec = ModelSpec("mlp", (D,), K, (("hidden", (4,)),))
    params, rows = init_params(spec, 0), np.array([0, 2, 3, 5, 9, 11])  # classes 0 2 0 2 0 2: none of class 1
    answer, work = ask(Represent(spec, params), trainer=Sequential(DATA, evaluation_batch=evaluation_batch), rows=rows)
    w, b = params["features.1.weight"].double().numpy(), params["features.1.bias"].double().numpy()
    features = np.maximum(DATA.x @ w.T + b, 0)
    assert answer.classes.tolist() == [0, 2]
    assert answer.counts.tolist() == [3, 3]
    np.testing.assert_allclose(answer.means[0].numpy(), features[[0, 3, 9]].mean(0), atol=1e-6)
    np.testing.assert_allclose(answer.means[1].numpy(), features[[2, 5, 11]].mean(0), atol=1e-6)
    assert not answer.means.is_inference()
    assert (work.flops, work.steps) == (2 * len(rows) * D * 4, 0)  # one forward pass of the features


def test_features_of_the_test_split_and_of_nobody():
    spec = ModelSpec("mlp", (D,), K, (("hidden", (4,)),))
    answer, _ = ask(Represent(spec, init_params(spec, 0), split="test"), rows=ROWS)
    assert answer.counts.tolist() == [2, 2, 2]  # six test rows
    with pytest.raises(ValueError, match="no train samples to represent"):
        ask(Represent(spec, init_params(spec, 0)), rows=ROWS[:0])


def test_a_loss_that_is_not_finite_names_client_and_step():
    request = train(
        loss=exploding, optimizer=Sgd(1.0), length=Length(steps=200), constants={"factor": torch.tensor(100.0)}
    )
    with pytest.raises(TrainingError, match=r"client 3 \(team 1\), round 7: loss is (inf|nan) after step \d+"):
        ask(request)


def test_parameters_that_are_not_finite_are_caught_even_when_the_losses_were_not():
    request = train(
        loss=exploding, optimizer=Sgd(1e30), length=Length(steps=1), constants={"factor": torch.tensor(1e15)}
    )
    with pytest.raises(TrainingError, match=r"parameter head\.\w+ is not finite after step 1"):
        ask(request)


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
    with pytest.raises(ValueError, match="more than 1 value per channel"):
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


def test_a_model_with_parameters_missing_is_refused():
    start = init_params(SPEC, 0)
    del start["head.bias"]
    with pytest.raises(ValueError, match=r"parameters are missing for the model: head.bias"):
        ask(Train(SPEC, start, Sgd(0.1), 4, length=Length(steps=1)))


def test_cuda_that_is_not_there_is_refused_and_auto_takes_it_only_with_a_share(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto", 1.0) == "cpu"
    with pytest.raises(ResourceError, match=r"training.device=cuda: torch finds no CUDA device"):
        resolve_device("cuda", 1.0)
    capped = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", capped.append)
    assert (resolve_device("auto", 0.0), resolve_device("cpu", 0.5), capped) == ("cpu", "cpu", [])
    assert (resolve_device("auto", 0.25), capped) == ("cuda", [0.25])


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


def test_pixels_are_scaled():
    from strata.engine.training.batches import Rows

    data = Dataset("pixels", np.array([[0], [255]], dtype="u1"), np.array([0, 1]), 2, shift=0.5, scale=0.5)
    x, y = Rows(data, torch.device("cpu")).fetch(np.array([0, 1]))
    assert x.tolist() == [[-1.0], [1.0]]
    assert y.tolist() == [0, 1]


def test_whatever_the_trainer_answers_a_method_may_ask_for():
    evaluation = get_type_hints(Algorithm.client_evaluate)["return"]
    driven = get_type_hints(Conversation)["steps"]
    assert set(get_args(Request)) == {Train, Evaluate, Represent}
    for kind in (ClientStep, evaluation, driven):
        assert get_args(kind)[0] == Request
