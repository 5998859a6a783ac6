"""APFL against its equations in numpy, with half of the clients a round, and at its limits."""

import numpy as np
import pytest
import torch

from strata.algorithms.apfl import Apfl, ApflConfig, Down, Private
from strata.engine.method.length import Length
from strata.engine.models.base import init_params
from tests.helpers.arithmetic.cohorts import LR, STEPS, assert_close, descended, mean, played, plus, slope
from tests.helpers.arithmetic.linear import drive, spec

ALPHA, ALPHA_LR = 0.4, 2.0


def mixed(a, v, w):
    return {name: a * v[name] + (1 - a) * w[name] for name in v}


def in_numpy(run, alpha, alpha_lr):
    """w, and (a, v, w_k) by client, after the last round."""
    w, own = run.start, {}
    for cohort in run.cohorts:
        for client in cohort:
            rows, (a, v, _) = run.rows[client], own.get(client, (alpha, w, w))
            by = slope(mixed(a, v, w), rows)
            a = min(1.0, max(0.0, a - alpha_lr * sum(float((by[n] * (v[n] - w[n])).sum()) for n in v)))
            local = w
            for _ in range(STEPS):
                by = slope(mixed(a, v, local), rows)
                local, v = plus(local, slope(local, rows), -LR), plus(v, by, -LR * a)
            own[client] = a, v, local
        w = mean([own[client][2] for client in cohort])
    return w, own


@pytest.mark.parametrize("alpha_lr", [0.0, ALPHA_LR])
def test_rounds_are_those_of_the_papers_algorithm(alpha_lr):
    run = played("apfl", f"method.alpha={ALPHA}", f"method.alpha_lr={alpha_lr}")
    w, own = in_numpy(run, ALPHA, alpha_lr)
    assert_close(run.end, w, run.start)
    assert set(run.clients) == set(own)
    for client, (a, v, local) in own.items():
        state = run.clients[client]
        assert state.a == pytest.approx(a, abs=1e-4)
        assert_close(state.v, v, run.start)
        assert_close(state.w, local, run.start)
    moved = [abs(a - ALPHA) > 0.01 for a, _, _ in own.values()]
    assert any(moved) == bool(alpha_lr)


def test_without_its_own_model_a_client_has_its_copy_and_with_nothing_else_it_is_alone():
    copies, alone = (played("apfl", f"method.alpha={alpha}", "method.alpha_lr=0") for alpha in (0, 1))
    personal = Apfl(ApflConfig(), spec()).personal_model
    for state in copies.clients.values():
        for name in ("head.weight", "head.bias"):
            assert state.a * state.v[name].abs().max() == 0
            torch.testing.assert_close((1 - state.a) * state.w[name], state.w[name])
    assert personal(Private(0.5)) is None
    calls = [client for cohort in alone.cohorts for client in cohort]
    for client in alone.cohorts[0]:
        steps = STEPS * calls.count(client)
        assert_close(alone.clients[client].v, descended(alone.start, alone.rows[client], steps), alone.start)


@pytest.mark.parametrize(("alpha_lr", "expected"), [(1e6, 1.0), (0.0, 0.25)])
def test_the_weight_stays_between_0_and_1_and_the_served_model_is_the_mixture(alpha_lr, expected):
    method = Apfl(ApflConfig(lr=0.3, batch_size=100, alpha=0.25, alpha_lr=alpha_lr), spec())
    w, v = init_params(spec(), 1), None
    result, _ = drive(method, Private(0.25), Down(w, Length(steps=20)))  # v leaves w behind
    v = result.state.v
    result, _ = drive(method, Private(0.25, v, w), Down(w, Length(steps=1)))
    assert result.state.a == expected
    state = Private(0.25, v, w)
    for name, value in method.personal_model(state).items():
        np.testing.assert_allclose(value, 0.25 * v[name].numpy() + 0.75 * w[name].numpy(), atol=1e-6)


def test_statistics_of_batch_norm_are_the_own_models():
    method = Apfl(ApflConfig(lr=0.3, batch_size=100), spec("normed"))
    w = init_params(spec("normed"), 1)
    result, _ = drive(method, Private(0.5), Down(w, Length(steps=3)))
    served = method.personal_model(result.state)
    name = "features.1.running_mean"
    assert torch.equal(served[name], result.state.v[name])
    assert not torch.equal(served[name], w[name])
    assert set(served) == set(w)
