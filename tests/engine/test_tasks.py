"""Federations on other tasks than classification: against plain torch, batched as one by one, and what they refuse."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from strata.engine.build import build_world
from strata.engine.config.given import load_given
from strata.engine.data.memory import from_arrays
from strata.engine.errors import ConfigError, TrainingError
from strata.engine.federation import Federation
from strata.engine.tree import fingerprint

DRAWS = np.random.default_rng(1)
X = DRAWS.normal(size=(96, 4)).astype("float32")
NUMBERS = (X @ DRAWS.normal(size=(4, 2)) + 0.1 * DRAWS.normal(size=(96, 2))).astype("float32")
LABELS = (NUMBERS > 0.3).astype("uint8")
TOKENS = DRAWS.integers(0, 6, size=(96, 5))
TARGETS = {"regression": NUMBERS, "multi_label": LABELS}
ROWS = [range(start, start + 16) for start in range(0, 96, 16)]
SETTINGS = {
    "partition": ROWS,
    "delays": "none",
    "runtime": "inprocess",
    "rounds": 3,
    "model": {"name": "mlp", "hidden": [8]},
    "method.lr": 0.1,
    "method.batch_size": 12,
}
LOSSES = {
    "regression": F.mse_loss,
    "multi_label": lambda outputs, y: F.binary_cross_entropy_with_logits(outputs, y.float()),
}


def federation(method, task, **settings):
    data = from_arrays(X, TARGETS[task])
    return Federation.from_config(method, {**SETTINGS, "data": data, **settings})


@pytest.mark.parametrize("task", TARGETS)
def test_a_round_is_what_plain_torch_does(task):
    with federation("fedavg", task, **{"method.momentum": 0.5, "training.batch_clients": 1}) as made:
        start = made.global_model()
        record = made.run_round()
        after = made.global_model()
        sums = [torch.zeros_like(value) for value in start.parameters()]
        sides = made.world.data.clients
        y = torch.from_numpy(TARGETS[task])
        for rows in sides:
            model = made.world.algorithm.model.build()
            model.load_state_dict(start.state_dict())
            loss = LOSSES[task](model(torch.from_numpy(X[rows.train])), y[rows.train])
            # 12 training rows are one batch, so momentum does nothing yet.
            for total, value, gradient in zip(
                sums, model.parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True
            ):
                total += (value - 0.1 * gradient).detach() / len(sides)
        for value, total in zip(after.parameters(), sums, strict=True):
            torch.testing.assert_close(value, total, rtol=1e-4, atol=1e-5)
        tested = np.concatenate([rows.test for rows in sides])
        outputs = after(torch.from_numpy(X[tested])).detach()
        scores = record.scores["GM"]
        assert scores.loss == pytest.approx(float(LOSSES[task](outputs, y[tested])), rel=1e-4)
        if task == "regression":
            assert scores.value == pytest.approx(float(F.mse_loss(outputs, y[tested]).sqrt()), rel=1e-4)
            assert (scores.headline, np.isnan(scores.accuracy)) == ("rmse", True)
            worst = max(scores.clients.values())
            assert scores.worst_decile == pytest.approx(worst)
        else:
            exact = float(((outputs > 0) == y[tested].bool()).all(1).float().mean())
            assert (scores.accuracy, scores.measures["exact_match"]) == (pytest.approx(exact), pytest.approx(exact))
            assert set(scores.measures) == {"macro_f1", "exact_match", "auc"}


@pytest.mark.parametrize("task", TARGETS)
def test_clients_trained_as_one_get_the_bits_that_they_get_one_by_one(task):
    found = []
    # Layers wide enough for torch to multiply one matrix as it does several.
    wide = {"data": from_arrays(np.tile(X, 4), np.tile(TARGETS[task], 4)), "model": {"name": "mlp", "hidden": [32]}}
    for together in (1, 64):
        with federation("fedavg", task, **wide, **{"training.batch_clients": together, "method.epochs": 2}) as made:
            scores = [record.scores["GM"] for record in made]
            assert not made.singly
            found.append((fingerprint(made.rounds.snapshot().server), scores))
    assert found[0] == found[1]


LEARNING = [
    "fedavg",
    "fedprox",
    "scaffold",
    "ditto",
    "permfl",
    "hsgd",
    "pfedme",
    "apfl",
    "fedrep",
    "per_fedavg",
    "al2gd",
    "demlearn",
    "fedbabu",
    "lg_fedavg",
    "standalone",
    "pfedlora",
]
OWN = {
    "permfl": {"method.alpha": 0.1, "method.local_steps": 4},
    "pfedme": {"method.personal_lr": 0.1, "method.local_steps": 4},
    "fedbabu": {"method.optimizer": "sgd", "method.label_smoothing": 0.0, "clients.participation": 1.0},
}


def learners():
    """Every method on every task: `make test` makes each on one of them, `make test-all` on both."""
    for number, method in enumerate(LEARNING):
        for place, task in enumerate(TARGETS):
            yield pytest.param(method, task, marks=[pytest.mark.exhaustive] * (number % 2 != place))


@pytest.mark.parametrize(("method", "task"), list(learners()))
def test_what_is_only_a_loss_on_a_model_learns_any_task(method, task):
    settings = {"rounds": 8, "evaluation.every": 1, "agents.policy": "none", "teams.count": 2, **OWN.get(method, {})}
    base = {key: value for key, value in SETTINGS.items() if key != "method.lr" or method != "permfl"}
    with Federation.from_config(method, {**base, "data": from_arrays(X, TARGETS[task]), **settings}) as made:
        records = list(made)
    kind = next(kind for kind in ("PM", "TM", "GM") if kind in records[0].scores)
    losses = [record.scores[kind].loss for record in records]
    assert losses[-1] < 0.995 * losses[0]


@pytest.mark.parametrize(
    ("method", "task", "settings", "says"),
    [
        ("fedproto", "regression", {}, "its prototypes are the mean features of a class. Choose another method"),
        ("fml", "multi_label", {}, "its models learn from each other's softmax"),
        ("fedkd", "regression", {}, "arrays is read for regression"),
        ("hapfl", "regression", {}, "softmax over classes"),
        ("fedbabu", "regression", {"method.label_smoothing": 0.1}, "method.label_smoothing=0.1: arrays is read for"),
        ("fedavg", "regression", {"evaluation.metrics": ["macro_f1"]}, "Leave macro_f1 out"),
        ("fedavg", "regression", {"evaluation.metrics": ["auc"]}, "Leave auc out"),
        ("fedavg", "multi_label", {"evaluation.metrics": ["confusion"]}, "Leave confusion out"),
        (
            "fedavg",
            "regression",
            {"evaluation.headline": "auc"},
            "evaluation.headline=auc: arrays is read for regression (data.task). Expected one of rmse, mae, r2.",
        ),
        ("fedavg", "regression", {"stop.accuracy": 0.5}, "Set stop.target, which ends a run once that has fallen"),
        ("permfl", "regression", {"agents.policy": "rllib"}, "agents learn from accuracies"),
    ],
)
def test_what_a_task_does_not_go_with_is_refused_with_the_reason(method, task, settings, says):
    plain = {key: value for key, value in SETTINGS.items() if not key.startswith("method.")}
    if "agents.policy" not in settings and method in ("hapfl", "permfl"):
        settings = {**settings, "agents.policy": "none"}
    config, given = load_given(method, {**plain, "data": from_arrays(X, TARGETS[task]), **settings}, {})
    with pytest.raises(ConfigError) as caught:
        build_world(config, given)
    assert says in str(caught.value)


def test_personal_models_hurt_where_their_errors_are_larger():
    with federation("fedavg", "regression", **{"evaluation.personal": "last"}) as made:
        *_, last = made
    own, shared = last.scores["PM"], last.scores["GM"]
    assert own.hurt == np.mean([own.clients[client] > shared.clients[client] for client in own.clients])
    assert 0 < own.hurt < 1


def test_metrics_of_ones_own_are_weighted_as_accuracies_are():
    metrics = {"largest": "tests.helpers.own.metrics:largest_error"}
    found = []
    for together in (1, 64):
        with federation("fedavg", "regression", metrics=metrics, **{"training.batch_clients": together}) as made:
            record = made.run_round()
            model = made.global_model()
            sides = [rows.test for rows in made.world.data.clients]
            found.append(record.scores["GM"].measures["largest"])
    outputs = [model(torch.from_numpy(X[rows])).detach() for rows in sides]
    values = [float((o - torch.from_numpy(NUMBERS[rows])).abs().max()) for o, rows in zip(outputs, sides, strict=True)]
    assert found[0] == found[1] == pytest.approx(np.average(values, weights=[len(rows) for rows in sides]))


def test_classes_have_areas_and_metrics_of_ones_own_beside_accuracies():
    data = from_arrays(X, NUMBERS.argmax(1) + (NUMBERS[:, 0] > 1))
    settings = {"evaluation.metrics": ["auc"], "metrics": {"top_two": "tests.helpers.own.metrics:top_two"}}
    with Federation.from_config("fedavg", {**SETTINGS, "data": data, **settings}) as made:
        *_, last = made
    scores = last.scores["GM"]
    assert (scores.headline, set(scores.measures)) == (None, {"auc", "top_two"})
    assert scores.accuracy < scores.measures["top_two"] < 1
    assert 0.5 < scores.measures["auc"] < 1


@pytest.mark.parametrize("headline", ["macro_f1", "auc", "top_two"])
def test_models_are_compared_by_another_measure_where_one_is_asked_for(headline):
    data = from_arrays(X, NUMBERS.argmax(1) + (NUMBERS[:, 0] > 1))
    settings = {
        "metrics": {"top_two": "tests.helpers.own.metrics:top_two"},
        "evaluation": {"metrics": ["macro_f1", "auc"], "personal": "last"},
    }
    found = {}
    for asked in ("", headline):
        with Federation.from_config(
            "fedavg", {**SETTINGS, "data": data, **settings, "evaluation.headline": asked}
        ) as made:
            *_, found[asked] = (record.scores for record in made)
    plain, other = (found[asked]["PM"] for asked in ("", headline))
    assert other.value == {"macro_f1": plain.macro_f1, **plain.measures}[headline]
    assert (other.measure.name, other.accuracy, other.loss) == (headline, plain.accuracy, plain.loss)
    assert plain.value == plain.accuracy != other.value
    shared = found[headline]["GM"].clients
    assert other.hurt == np.mean([value < shared[client] for client, value in other.clients.items()])
    assert other.clients != plain.clients
    if headline == "macro_f1":
        assert other.mean == pytest.approx(plain.macro_f1_mean)


def test_a_headline_is_measured():
    with pytest.raises(ConfigError, match=r"evaluation\.headline='f1': expected one of accuracy, macro_f1, .*largest"):
        federation(
            "fedavg",
            "regression",
            metrics={"largest": "tests.helpers.own.metrics:largest_error"},
            **{"evaluation.headline": "f1"},
        )


def test_the_next_token_is_told_with_its_perplexity():
    data = from_arrays(TOKENS, (TOKENS[:, 0] + TOKENS[:, 1]) % 6, task="next_token")
    settings = {"model": {"name": "transformer", "width": 0.25, "depth": 1}, "rounds": 1, "method.lr": 0.01}
    with Federation.from_config("fedavg", {**SETTINGS, "data": data, **settings}) as made:
        scores = made.run_round().scores["GM"]
    assert scores.headline is None
    assert scores.measures == {"perplexity": pytest.approx(np.exp(scores.loss))}
    assert 4 < scores.measures["perplexity"] < 9  # of six tokens, before anything is learnt


@pytest.mark.parametrize(
    ("metrics", "says"),
    [
        ({"odd": lambda outputs, targets: 1.0}, "metrics: .* cannot be found by its name"),
        ({"odd": 3}, "expected functions by name"),
        (
            {"odd": "tests.helpers.own.metrics:missing"},
            "own_metrics.odd=tests.helpers.own.metrics:missing: AttributeError",
        ),
        ({"odd": "tests.helpers.own.metrics"}, "expected a function, as package.module:function"),
        ({"rmse": "tests.helpers.own.metrics:largest_error"}, "'rmse' cannot be the name of a metric of one's own"),
    ],
)
def test_metrics_that_are_none_are_refused_before_anything_starts(metrics, says):
    with pytest.raises(ConfigError, match=says):
        federation("fedavg", "regression", metrics=metrics)


def test_a_metric_that_breaks_is_named_with_its_client():
    metrics = {"odd": "tests.helpers.own.metrics:broken"}
    with (
        federation("fedavg", "regression", metrics=metrics) as made,
        pytest.raises(TrainingError, match="client 0, evaluation: the metric odd raised ZeroDivisionError: no"),
    ):
        made.run_round()
