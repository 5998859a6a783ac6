"""Validation rows: held out of the training rows, class by class, and what stands in for them."""

import numpy as np
import pytest
import torch

from strata.engine.build import build_world
from strata.engine.data.dataset import ClientData, Dataset
from strata.engine.data.partition.holdout import with_validation
from strata.engine.errors import ConfigError
from strata.engine.federation import Federation
from strata.engine.method.requests import Evaluate
from strata.engine.models.base import init_params
from strata.engine.models.spec import ModelSpec
from strata.engine.training.sequential import Sequential
from tests.helpers.calls import call_rows
from tests.helpers.small import small
from tests.helpers.training import lead


def rows_of(*words):
    return build_world(small("fedavg", "data.limit=1200", "partition=iid", *words)).data


def test_a_share_of_the_training_rows_is_held_out_and_nothing_else_moves():
    plain, held = rows_of(), rows_of("data.validation_fraction=0.25")
    for before, after in zip(plain.clients, held.clients, strict=True):
        assert len(before.validation) == 0
        assert after.test.tolist() == before.test.tolist()
        assert len(after.validation) == round(0.25 * len(before.train))
        both = np.concatenate([after.train, after.validation])
        assert sorted(both) == before.train.tolist()
        assert len(set(both)) == len(both)


def test_classes_keep_their_shares():
    held = rows_of("data.validation_fraction=0.5", "partition=dirichlet", "partition.alpha=1")
    y = held.dataset.y
    for rows in held.clients:
        train, validation = (np.bincount(y[part], minlength=10) for part in (rows.train, rows.validation))
        assert np.abs(train - validation).max() <= 1


def test_it_is_a_split_of_its_own_for_every_client_and_seed():
    def of(seed):
        return [rows.validation.tolist() for rows in rows_of("data.validation_fraction=0.25", f"seed={seed}").clients]

    assert of(0) == of(0) != of(1)


def test_a_client_with_one_training_row_keeps_it():
    data = Dataset("toy", np.zeros((6, 2), np.float32), np.array([0, 1, 0, 1, 0, 1]), 2)
    clients = [ClientData(np.array([0]), np.array([1])), ClientData(np.array([2, 3, 4]), np.array([5]))]
    lone, other = with_validation(data, clients, 0.9, seed=0)
    assert (lone.train.tolist(), lone.validation.tolist()) == ([0], [])
    assert len(other.train) == 1  # at least one row stays to train on
    assert len(other.validation) == 2


def test_evaluation_on_validation_rows_or_on_the_training_rows_in_their_place():
    data = Dataset("toy", np.random.default_rng(0).normal(size=(12, 3)).astype("f4"), np.arange(12) % 2, 2)
    spec = ModelSpec("mclr", (3,), 2)
    params = init_params(spec, 0)
    parts = {"train": np.arange(5), "test": np.arange(5, 7), "validation": np.arange(7, 12)}

    def steps(split):
        return (yield Evaluate(spec, params, split))

    def found(split, validation):
        return lead(Sequential(data), steps(split), parts["train"], parts["test"], 0, "client 0", validation)[0]

    def expected(rows):
        module = spec.build()
        module.load_state_dict(params)
        logits, y = module(torch.from_numpy(data.x[rows])).detach(), torch.from_numpy(data.y[rows])
        loss = torch.nn.functional.cross_entropy(logits, y, reduction="sum")
        return int((logits.argmax(1) == y).sum()), len(rows), pytest.approx(float(loss), rel=1e-5)

    for split, rows in parts.items():
        score = found(split, parts["validation"])
        assert (score.correct, score.samples, score.loss_sum) == expected(rows)
    for none in (None, np.zeros(0, np.int64)):
        assert found("validation", none) == found("train", none)


def test_hapfl_weighs_by_validation_rows_where_there_are_some():

    words = ("model=mlp", "model.hidden=[16]", "agents.policy=none", "rounds=1", "data.limit=1200")
    with Federation(small("hapfl", *words, "data.validation_fraction=0.4")) as federation:
        (record,) = federation
        shares = [len(rows.validation) for rows in federation.world.data.clients]
    for call in call_rows(record.calls):
        right = call.metrics["validation_accuracy"] * shares[call.client]
        assert right == pytest.approx(round(right), abs=1e-9)


@pytest.mark.parametrize("fraction", [1.0, -0.1])
def test_shares_out_of_range_are_refused(fraction):
    with pytest.raises(ConfigError, match=r"data\.validation_fraction"):
        small("fedavg", f"data.validation_fraction={fraction}")
