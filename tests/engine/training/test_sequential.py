"""The trainer against closed forms."""

from dataclasses import dataclass
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
from strata.engine.method.requests import (
    Cosine,
    Evaluate,
    Gradient,
    Linear,
    Pull,
    Recalibrate,
    Represent,
    Request,
    Sgd,
    Train,
)
from strata.engine.models.base import init_params
from strata.engine.models.spec import ModelSpec
from strata.engine.training.batches import plan_batches
from strata.engine.training.conversation import Conversation
from strata.engine.training.device import resolve_device
from strata.engine.training.flops import FlopCounts
from strata.engine.training.sequential import Sequential
from strata.engine.tree import fingerprint
from tests.helpers.training import DATA, ROWS, D, K, N, ask

SPEC = ModelSpec("mclr", (D,), K)


def quadratic(model: nn.Module, batch: Batch) -> torch.Tensor:
    """½‖θ‖², whatever the data: its gradient is θ, so SGD has a closed form."""
    return sum((p**2).sum() for p in model.parameters()) / 2 + 0 * model(batch.x).sum(1)


def exploding(model: nn.Module, batch: Batch) -> torch.Tensor:
    return quadratic(model, batch) * batch.constants["factor"]


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


def test_a_correction_is_added_to_each_gradient():
    start = init_params(SPEC, 0)
    answer, _ = ask(train(length=Length(steps=2), correction={"head.bias": torch.full((K,), 3.0)}))
    torch.testing.assert_close(answer.params["head.weight"], start["head.weight"] * 0.9**2)
    torch.testing.assert_close(answer.params["head.bias"], (start["head.bias"] * 0.9 - 0.3) * 0.9 - 0.3)
    assert answer.steps == 2


def test_gradients_are_scaled_down_to_a_norm_and_never_up():
    start = init_params(SPEC, 0)
    norm = float(torch.cat([value.flatten() for value in start.values()]).norm())
    clipped, _ = ask(train(length=Length(steps=1), clip_norm=norm / 4))
    free, _ = ask(train(length=Length(steps=1), clip_norm=norm * 1.01))
    for name, value in start.items():
        torch.testing.assert_close(clipped.params[name], value * (1 - 0.1 / 4))  # the gradient is θ itself
        torch.testing.assert_close(free.params[name], value * 0.9)


def test_what_is_clipped_is_the_gradient_with_all_that_is_added_to_it():
    start = init_params(SPEC, 0)
    away = {name: -value for name, value in start.items()}
    pulled = Pull({name: torch.zeros_like(value) for name, value in start.items()}, 2.0)
    answer, _ = ask(train(length=Length(steps=1), pull=(pulled,), correction=away, clip_norm=1.0))
    whole = float(torch.cat([2 * value.flatten() for value in start.values()]).norm())  # θ + 2 θ − θ
    assert whole > 1
    for name, value in answer.params.items():
        torch.testing.assert_close(value, start[name] * (1 - 0.1 * 2 / whole))


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        (Cosine(), (1, 0.5, 0)),
        (Cosine(0.2), (1, 0.6, 0.2)),
        (Linear(0.5, 1.0), (0.5, 0.75, 1)),
        (lambda step, steps: (step + 1) / steps, (1 / 3, 2 / 3, 1)),
    ],
)
def test_a_schedule_multiplies_the_learning_rate_step_by_step(schedule, factors):
    answer, _ = ask(train(length=Length(steps=3), schedule=schedule))
    for name, value in init_params(SPEC, 0).items():
        torch.testing.assert_close(answer.params[name], value * float(np.prod([1 - 0.1 * one for one in factors])))


@dataclass(frozen=True)
class Adagrad:
    lr: float

    def make(self, params):
        return torch.optim.Adagrad(params, self.lr)


def test_an_optimiser_of_ones_own_makes_the_steps_of_torchs():
    answer, _ = ask(train(length=Length(steps=3), optimizer=Adagrad(0.1), schedule=Linear(1.0, 0.5)))
    theirs = [nn.Parameter(value.clone()) for value in init_params(SPEC, 0).values()]
    optimizer = torch.optim.Adagrad(theirs, 0.1)
    for factor in (1.0, 0.75, 0.5):
        optimizer.param_groups[0]["lr"] = 0.1 * factor
        for parameter in theirs:
            parameter.grad = parameter.detach().clone()
        optimizer.step()
    for value, expected in zip(answer.params.values(), theirs, strict=True):
        torch.testing.assert_close(value, expected.detach())


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
    monkeypatch.setattr("strata.engine.training.modules.MODULES_KEPT", 2)
    trainer = Sequential(DATA)
    trainer._flops = FlopCounts()
    for size in (1, 2, 3, 4, 1):
        spec = ModelSpec("mlp", (D,), K, (("hidden", (size,)),))
        request = Train(spec, init_params(spec, 0), Sgd(0.1), batch_size=4, length=Length(steps=1))
        kept, work = ask(request, trainer=trainer)
        anew, expected = ask(request)
        assert (fingerprint(kept), work) == (fingerprint(anew), expected)
    assert (len(trainer._flops._kept), len(trainer._modules)) == (2, 2)


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


def test_pixels_are_scaled():
    from strata.engine.training.batches import Rows

    data = Dataset("pixels", np.array([[0], [255]], dtype="u1"), np.array([0, 1]), 2, shift=0.5, scale=0.5)
    x, y = Rows(data, torch.device("cpu")).fetch(np.array([0, 1]))
    assert x.tolist() == [[-1.0], [1.0]]
    assert y.tolist() == [0, 1]


def test_whatever_the_trainer_answers_a_method_may_ask_for():
    evaluation = get_type_hints(Algorithm.client_evaluate)["return"]
    driven = get_type_hints(Conversation)["steps"]
    assert set(get_args(Request)) == {Train, Gradient, Evaluate, Represent, Recalibrate}
    for kind in (ClientStep, evaluation, driven):
        assert get_args(kind)[0] == Request
