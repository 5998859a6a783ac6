"""FedRep against its equations in numpy, with half of the clients a round; what stands still, and what travels."""

import numpy as np
import pytest
import torch

from strata.algorithms.fedrep import FedRep, FedRepConfig, Private
from strata.engine.errors import ConfigError, StrataError
from strata.engine.federation import Federation
from strata.engine.models.base import init_params
from strata.engine.models.spec import ModelSpec
from strata.engine.options import check
from strata.engine.seeding import derive
from strata.engine.tree import count_bytes
from tests.helpers.arithmetic.cohorts import LR, STEPS, arrays, assert_close, mean, played, plus
from tests.helpers.arithmetic.linear import INFO, WORK, drive, softmax, spec
from tests.helpers.small import HALF, small

HEAD_STEPS = 4
BODY, HEAD = ("features.weight", "features.bias"), ("head.weight", "head.bias")


def slope(w, rows):
    """The gradient of mean cross-entropy of a linear head on linear features, by name."""
    x, y = rows
    features = x @ w["features.weight"].T + w["features.bias"]
    p = softmax(features @ w["head.weight"].T + w["head.bias"])
    p[np.arange(len(y)), y] -= 1
    error = p / len(y)
    back = error @ w["head.weight"]
    return {
        "head.weight": error.T @ features,
        "head.bias": error.sum(0),
        "features.weight": back.T @ x,
        "features.bias": back.sum(0),
    }


def step(w, rows, names):
    by = slope(w, rows)
    return plus(w, {name: by[name] for name in names}, -LR)


def correct(w, rows):
    features = rows[0] @ w["features.weight"].T + w["features.bias"]
    return int(((features @ w["head.weight"].T + w["head.bias"]).argmax(1) == rows[1]).sum())


def test_rounds_are_those_of_the_papers_algorithm():
    words = (f"method.head_steps={HEAD_STEPS}", "method.momentum=0")
    run = played("fedrep", "model=tests.helpers.arithmetic.linear:linear", *words)
    model = ModelSpec("tests.helpers.arithmetic.linear:linear", (60,), 10, ())
    first = [arrays(init_params(model, derive(0, "client", client))) for client in range(6)]
    heads = [{name: one[name] for name in HEAD} for one in first]
    body = {name: run.start[name] for name in BODY}
    for cohort in run.cohorts:
        ends = []
        for client in cohort:
            w = {**body, **heads[client]}
            for _ in range(HEAD_STEPS):
                w = step(w, run.rows[client], HEAD)
            heads[client] = {name: w[name] for name in HEAD}
            for _ in range(STEPS):
                w = step(w, run.rows[client], BODY)
            ends.append({name: w[name] for name in BODY})
        body = mean(ends)
    assert_close(run.end, body, run.start)
    for client, state in run.clients.items():
        assert_close(state.head, heads[client], first[client])
    assert set(run.end) == set(BODY)
    served = [{**run.end, **head} for head in heads]
    scored = sum(correct(model, rows) for model, rows in zip(served, run.tests, strict=True))
    assert run.scores["PM"].accuracy == scored / sum(len(rows[1]) for rows in run.tests)


def test_only_the_body_travels_and_what_is_frozen_stands_still():
    method = FedRep(FedRepConfig(lr=0.3, batch_size=100, head_epochs=0, head_steps=2), spec("normed"))
    w, head = init_params(spec("normed"), 1), init_params(spec("normed"), 2)
    own = Private({name: value for name, value in head.items() if name in method.head})
    down = method.to_client(method.init_global(1), INFO, {**WORK, "steps": 3})
    result, _ = drive(method, own, down)
    assert set(result.up.body) | set(result.state.head) == set(w)
    assert set(result.state.head) == set(HEAD)
    assert count_bytes(result.up) == 4 * sum(value.numel() for name, value in w.items() if name not in HEAD)
    steps = method.client_step(INFO, own, down, None)
    first = next(steps)
    assert (first.trainable, first.frozen, first.length.count) == (method.head, ("features",), 2)
    assert all(torch.equal(first.start[name], own.head[name]) for name in HEAD)
    name = "features.1.running_mean"
    assert not torch.equal(result.up.body[name], w[name])


def test_a_model_without_a_head_and_a_head_that_never_trains_are_refused():
    with pytest.raises(ConfigError, match=r"FedRep trains the body and the head apart.*model=cnn"):
        FedRep(FedRepConfig(), ModelSpec("mclr", (2,), 2, ()))
    with pytest.raises(ConfigError, match="head_epochs=0 and head_steps=0"):
        check(FedRepConfig(head_epochs=0))


def test_there_is_no_global_model_to_be_had():
    with Federation(small("fedrep", "rounds=1", *HALF)) as federation:
        list(federation)
        called = next(iter(federation.rounds.snapshot().clients))
        model = federation.client_model(called)
        head = federation.rounds.snapshot().clients[called].head
        assert all(torch.equal(dict(model.named_parameters())[name], head[name]) for name in HEAD)
        with pytest.raises(StrataError, match=r"FedRep has no global model\. Ask for its personal models instead"):
            federation.global_model()
