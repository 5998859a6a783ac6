"""What is measured of outputs against targets: by definition, over all pairs, and of parts as of the whole."""

import math

import numpy as np
import pytest
import torch

from strata.engine.errors import TrainingError
from strata.engine.evaluation.measures import auc, evaluated, further, measure_of, measured, pooled
from strata.engine.method.requests import Evaluate, Evaluation
from strata.engine.models.spec import ModelSpec

DRAWS = np.random.default_rng(3)
REQUEST = Evaluate(ModelSpec("mclr", (1,), 2), {})
PARTS = (slice(0, 7), slice(7, 9), slice(9, 30))


def test_errors_of_clients_add_up_to_those_of_all_rows():
    outputs, targets = DRAWS.normal(size=(30, 2)), DRAWS.normal((0.0, 100.0), size=(30, 2))
    o, t = torch.tensor(outputs, dtype=torch.float32), torch.tensor(targets, dtype=torch.float32)
    found = [evaluated(REQUEST, o[part], t[part], "here") for part in PARTS]
    errors = outputs - targets
    expected = {
        "rmse": np.sqrt((errors**2).mean()),
        "mae": np.abs(errors).mean(),
        "r2": (1 - (errors**2).sum(0) / ((targets - targets.mean(0)) ** 2).sum(0)).mean(),
    }
    assert measured("regression", found) == pytest.approx(expected, rel=1e-5)
    assert sum(one.loss_sum for one in found) / 30 == pytest.approx((errors**2).mean(), rel=1e-5)
    assert (measure_of("rmse").falls, measure_of("r2").falls) == (True, False)


def test_where_targets_do_not_differ_there_is_no_share_explained():
    o, t = torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0], [2.0]])
    assert measured("regression", [evaluated(REQUEST, o, t, "here")]) == {"rmse": 1.0, "mae": 1.0}


def test_labels_of_clients_add_up_to_those_of_all_rows():
    outputs, held = DRAWS.normal(size=(30, 3)), DRAWS.random(size=(30, 3)) < 0.4
    o, t = torch.tensor(outputs), torch.tensor(held.astype("uint8"))
    found = [evaluated(REQUEST, o[part], t[part], "here") for part in PARTS]
    said = outputs > 0
    scores = [2 * (said & held)[:, k].sum() / (said[:, k].sum() + held[:, k].sum()) for k in range(3)]
    exact = (said == held).all(1).mean()
    assert measured("multi_label", found) == pytest.approx({"macro_f1": np.mean(scores), "exact_match": exact})
    p = 1 / (1 + np.exp(-outputs))
    loss = -np.where(held, np.log(p), np.log(1 - p)).mean()
    assert sum(one.loss_sum for one in found) / 30 == pytest.approx(loss)


def test_labels_that_nobody_has_or_is_told_to_have_do_not_count():
    o, t = torch.tensor([[1.0, -1.0], [-1.0, -1.0]]), torch.tensor([[1, 0], [0, 0]], dtype=torch.uint8)
    assert measured("multi_label", [evaluated(REQUEST, o, t, "here")])["macro_f1"] == 1.0
    assert measured("multi_label", [evaluated(REQUEST, o[1:], t[1:], "here")])["macro_f1"] == 1.0
    assert measured("multi_label", [evaluated(REQUEST, -o, t, "here")])["macro_f1"] == 0.0


def test_perplexity_is_of_the_mean_loss():
    assert measured("next_token", [Evaluation(1, 2, 3.0), Evaluation(0, 1, 0.0)])["perplexity"] == pytest.approx(math.e)
    assert measured("next_token", [Evaluation(0, 1, 1e6)])["perplexity"] == math.inf


def by_pairs(scores, held):
    """The share of pairs in the right order, ties half."""
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[held] for b in scores[~held]]
    return float(np.mean(pairs))


def test_the_area_is_the_share_of_pairs_in_the_right_order():
    scores = DRAWS.integers(0, 4, size=(25, 2)).astype(float)  # with ties
    held = DRAWS.random(size=(25, 2)) < 0.3
    found = auc(torch.tensor(scores), torch.tensor(held.astype("uint8")))
    assert found == pytest.approx(np.mean([by_pairs(scores[:, k], held[:, k]) for k in range(2)]))


def test_of_two_classes_the_second_is_looked_at_and_of_more_each_against_the_rest():
    logits, y = DRAWS.normal(size=(25, 4)), DRAWS.integers(0, 3, size=25)  # the last class is not there
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = np.mean([by_pairs(shares[:, k], y == k) for k in range(3)])
    assert auc(torch.tensor(logits), torch.tensor(y)) == pytest.approx(expected)
    two = auc(torch.tensor(logits[:, :2]), torch.tensor(y % 2))
    assert two == pytest.approx(by_pairs(logits[:, 1] - logits[:, 0], y % 2 == 1))
    assert math.isnan(auc(torch.tensor(logits), torch.zeros(25, dtype=torch.int64)))


def test_metrics_of_clients_are_weighted_by_samples_where_they_are_defined():
    found = [
        Evaluation(0, 1, 0.0, further={"a": 1.0, "b": 2.0}),
        Evaluation(0, 3, 0.0, further={"a": 5.0}),
        Evaluation(0, 9, 0.0),
    ]
    assert pooled(found) == {"a": pytest.approx((1 + 15) / 4), "b": 2.0}


def test_a_metric_that_breaks_is_named_with_its_client():
    outputs, targets = torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64)
    asked = Evaluate(REQUEST.model, {}, further=(("odd", lambda o, t: "x"), ("none", lambda o, t: math.nan)))
    with pytest.raises(TrainingError, match=r"client 3: the metric odd raised ValueError.*outputs \(3, 2\)"):
        further(asked, outputs, targets, "client 3")
    assert further(Evaluate(REQUEST.model, {}, further=asked.further[1:]), outputs, targets, "client 3") == {}
