"""FedBABU: what moves, what stays, what travels, and what fine-tuning makes of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from strata.algorithms.fedbabu import FedBABU, FedBABUConfig, Global, Up
from strata.engine.errors import ConfigError
from strata.engine.federation import Federation
from strata.engine.method.messages import Received
from strata.engine.models.spec import ModelSpec
from strata.engine.training.sequential import Sequential
from strata.engine.tree import count_bytes
from tests.helpers.arithmetic.linear import (
    DATA,
    INFO,
    LR,
    ROWS,
    WORK,
    X,
    Y,
    arrays,
    assert_close,
    backward,
    drive,
    error,
    forward,
    spec,
    step,
)
from tests.helpers.moments import AT
from tests.helpers.small import small
from tests.helpers.training import lead


def method(**settings):
    return FedBABU(FedBABUConfig(lr=LR, batch_size=100, epochs=0, steps=1, **settings), spec())


def step_of_the_body(w):
    moved = step(w, backward(w, error(forward(w)[1])))
    return {name: moved[name] for name in ("features.weight", "features.bias")}


def test_steps_move_the_body_by_its_gradient_under_a_head_that_stays():
    babu = method()
    g = babu.init_global(3)
    result, _ = drive(babu, None, babu.to_client(g, INFO, {**WORK, "steps": 3}))
    w = after = arrays(g.w)
    for _ in range(3):
        after = {**after, **step_of_the_body(after)}
    assert set(result.up.body) == {"features.weight", "features.bias"}
    assert_close(result.up.body, {name: after[name] for name in result.up.body}, w)
    assert count_bytes(result.up) == 4 * sum(w[name].size for name in result.up.body)


def test_bodies_are_averaged_by_samples_under_the_same_head():
    babu = method()
    g = babu.init_global(3)
    bodies = [{name: torch.full_like(g.w[name], value) for name in babu.body} for value in (1.0, 4.0)]
    ups = [Received(client, n, Up(body)) for client, (n, body) in enumerate(zip((10, 20), bodies, strict=True))]
    after = babu.global_step(g, ups, AT)
    for name, value in after.w.items():
        expected = (10 * 1.0 + 20 * 4.0) / 30 * torch.ones_like(value) if name in babu.body else g.w[name]
        torch.testing.assert_close(value, expected)
    assert all(after.w[name] is g.w[name] for name in ("head.weight", "head.bias"))


@pytest.mark.parametrize("steps", [0, 2])
def test_clients_fine_tune_everything_before_they_are_evaluated(steps):
    babu = method(tune_epochs=0, tune_steps=steps, cosine_rounds=7)
    g = Global(babu.init_global(3).w)
    scores, _ = lead(Sequential(DATA), babu.client_evaluate(INFO, None, {"GM": g.w}), ROWS, ROWS, 0, "client 0")
    w = arrays(g.w)
    losses = []
    for _ in range(steps + 1):
        logits = forward(w, X)[1]
        z = logits - logits.max(1, keepdims=True)
        losses.append(-(z - np.log(np.exp(z).sum(1, keepdims=True)))[np.arange(len(Y)), Y].sum())
        w = step(w, backward(w, error(logits)))
    assert scores["GM"].loss_sum == pytest.approx(losses[0], rel=1e-5)
    assert scores["PM"].loss_sum == pytest.approx(losses[-1], rel=1e-5)
    assert (losses[-1] < losses[0] - 0.1) == (steps > 0)


def test_fine_tuning_costs_no_time_and_leaves_nothing_behind():
    runs = {}
    for epochs in (0, 3):
        with Federation(small("fedbabu", f"method.tune_epochs={epochs}", "rounds=2")) as federation:
            head = federation.rounds.snapshot().server.w["head.weight"]
            records = list(federation)
            runs[epochs] = records, federation.fingerprint()
            assert torch.equal(federation.rounds.snapshot().server.w["head.weight"], head)
    (plain, before), (tuned, after) = runs[0], runs[3]
    assert (before["models"], before["clock"]) == (after["models"], after["clock"])
    assert plain[-1].scores["PM"].hurt == 0
    assert replace(plain[-1].scores["PM"], hurt=None) == plain[-1].scores["GM"] == tuned[-1].scores["GM"]
    assert tuned[-1].scores["PM"].accuracy > tuned[-1].scores["GM"].accuracy + 0.1
    assert [record.flops for record in plain] == [record.flops for record in tuned]


@pytest.mark.parametrize("name", ["mclr"])
def test_a_model_without_a_body_is_refused(name):
    with pytest.raises(ConfigError, match=r"FedBABU trains the body and the head apart.*model=cnn"):
        FedBABU(FedBABUConfig(), ModelSpec(name, (1, 28, 28), 10))
