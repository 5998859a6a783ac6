"""Scores, records and means: closed forms."""

from dataclasses import fields, replace
from math import isnan, nan

import pytest

from strata.engine.method.calls import LATE, LOST, NO_TEAM, OK, Call, CallTable
from strata.engine.method.requests import Evaluation
from strata.engine.rounds.records import Outcome
from strata.engine.rounds.scores import Scoring, chain, record, score, score_all, to_plain

RECORD = record(1, 1.0, Outcome(1.0, [], CallTable.of([])), {}, wall_s=0.1)


def test_accuracy_is_pooled_and_fairness_is_over_clients():
    # 20 clients: 19 with 1 sample and all right, one with 81 samples of which 9 are right.
    evaluations = {c: Evaluation(1, 1, 0.5) for c in range(19)} | {19: Evaluation(9, 81, 40.5)}
    scores = score(evaluations)
    assert scores.accuracy == pytest.approx((19 + 9) / 100)
    assert scores.loss == pytest.approx((19 * 0.5 + 40.5) / 100)
    low = 9 / 81
    assert scores.mean == pytest.approx((19 + low) / 20)
    assert scores.std == pytest.approx((0.95 * 0.05) ** 0.5 * (1 - low))  # a two-valued distribution
    assert scores.worst_decile == pytest.approx((low + 1) / 2)  # the worst two of twenty
    assert scores.clients[19] == pytest.approx(low)


def test_few_clients_have_a_worst_decile_of_one_and_empty_ones_do_not_count():
    scores = score({0: Evaluation(1, 2, 1.0), 1: Evaluation(2, 2, 1.0), 2: Evaluation(0, 0, 0.0)})
    assert scores.worst_decile == 0.5
    assert set(scores.clients) == {0, 1}


def test_each_kind_of_model_is_scored_over_the_clients_that_have_it():
    scores = score_all(
        {0: {"GM": Evaluation(1, 2, 1.0), "PM": Evaluation(2, 2, 0.1)}, 1: {"GM": Evaluation(2, 2, 1.0)}}
    )
    assert {kind: s.accuracy for kind, s in scores.items()} == {"GM": 0.75, "PM": 1.0}


def call(client, status, loss, **numbers):
    costs = {"bytes_down": 1, "bytes_up": 2, "flops": 3, "samples": 4, "steps": 5} | numbers
    seconds = {"latency_s": 0, "download_s": 1, "compute_s": 1, "upload_s": 1}
    return Call(client, NO_TEAM, 1, "toy", status, **costs, **seconds, loss=loss, metrics={"found": 1.0})


def test_a_record_adds_up_what_its_calls_cost():
    calls = CallTable.of([call(0, OK, 1.0), call(1, LATE, 9.0), call(2, LOST, nan), call(3, OK, 3.0)])
    made = record(2, 7.0, Outcome(3.0, [1.0, 2.0], calls), {}, wall_s=0.1)
    assert (made.invited, made.completed, made.late, made.lost) == (4, 2, 1, 1)
    assert made.train_loss == 2.0  # of what was aggregated
    assert made.straggling_s == 1.5
    assert (made.bytes_client_down, made.bytes_client_up, made.flops) == (4, 8, 12)


def changes(value, **others):
    """Copies of a dataclass that each differ from it in one field, with the field's name."""
    others = {"scores": {"GM": score({0: Evaluation(1, 2, 1.0)})}} | others
    return [(field.name, replace(value, **{field.name: others.get(field.name, "another")})) for field in fields(value)]


def test_the_digest_sees_every_value_but_the_wall_clock():
    outcome = Outcome(1.0, [], CallTable.of([call(0, OK, 1.0)]))
    base = record(1, 1.0, outcome, {}, wall_s=0.1)
    assert "wall_s" not in to_plain(base)
    assert chain("", base) == chain("", record(1, 1.0, outcome, {}, wall_s=9.9))
    assert chain("x", base) != chain("", base)
    unseen = {"wall_s", "agents_wall_s", "seconds"}
    other = CallTable.of([call(1, OK, 1.0)])
    for name, changed in changes(base, calls=other):
        assert (chain("", changed) == chain("", base)) == (name in unseen), name
    made, scores = call(0, OK, 1.0), score({0: Evaluation(1, 2, 1.0)})
    for name in Call._fields:
        another = {"device": "another", "status": LOST, "metrics": {"found": 2.0}}.get(name, 7)
        changed = CallTable.of([made._replace(**{name: another})])
        assert chain("", replace(base, calls=changed)) != chain("", base), name
    scored = replace(base, scores={"GM": scores})
    for name, changed in changes(scores):  # the share of those that are hurt follows from their accuracies
        assert (chain("", replace(base, scores={"GM": changed})) == chain("", scored)) == (name == "hurt"), name


def test_clients_whom_personalisation_serves_worse_are_hurt():
    def both(global_, personal):
        return {"GM": Evaluation(global_, 4, 1.0), "PM": Evaluation(personal, 4, 1.0)}

    scores = score_all({0: both(2, 1), 1: both(2, 2), 2: both(2, 3), 3: both(0, 4)})
    assert scores["PM"].hurt == 0.25  # an equal accuracy hurts nobody
    assert scores["GM"].hurt is None
    assert score_all({0: {"PM": Evaluation(1, 4, 1.0)}})["PM"].hurt is None
    assert to_plain(replace(RECORD, scores=scores))["scores"]["PM"]["hurt"] == 0.25
    assert "hurt" not in to_plain(replace(RECORD, scores=scores))["scores"]["GM"]


def test_clients_for_whom_the_headline_is_not_defined_are_left_out_of_its_mean():
    def of(samples, **further):
        return Evaluation(1, samples, 1.0, further=further)

    evaluations = {0: {"GM": of(3, auc=0.5)}, 1: {"GM": of(1, auc=0.9)}, 2: {"GM": of(4)}}
    made = score_all(evaluations, Scoring(headline="auc"))["GM"]
    assert made.clients == {0: 0.5, 1: 0.9}
    assert (made.mean, made.worst_decile, made.value) == pytest.approx((0.7, 0.5, (3 * 0.5 + 0.9) / 4))
    assert made.accuracy == 3 / 8
    nobody = score_all({2: {"GM": of(4), "PM": of(4)}}, Scoring(headline="auc"))["PM"]
    assert nobody.clients == {}
    assert isnan(nobody.value)
    assert nobody.hurt is None


def test_the_unseen_are_scored_apart():
    evaluations = {0: {"GM": Evaluation(1, 2, 1.0)}, 1: {"GM": Evaluation(2, 2, 1.0), "PM": Evaluation(1, 2, 1.0)}}
    scores = score_all(evaluations, Scoring(unseen={1}))
    assert {kind: one.accuracy for kind, one in scores.items()} == {"GM": 0.5, "unseen GM": 1.0, "unseen PM": 0.5}
    assert scores["unseen PM"].hurt == 1.0


def test_f1_is_of_all_rows_together_and_of_each_client():
    # Together: class 0 is right 3 of 4 times and predicted 4 times, class 1 once of 2 and 2: F1 of 3/4 and 1/2.
    first, second = ((0, 0, 1), (0, 1, 1), (1, 1, 1)), ((0, 0, 2), (1, 0, 1))
    evaluations = {0: {"GM": Evaluation(2, 3, 1.0, first)}, 1: {"GM": Evaluation(2, 3, 1.0, second)}}
    made = score_all(evaluations, Scoring(metrics=["macro_f1", "confusion"], classes=3))["GM"]
    assert made.macro_f1 == pytest.approx((3 / 4 + 1 / 2) / 2)
    # The first: 2/3 and 2/3. The second: 4/5, and 0 for the class that it never predicts.
    assert made.macro_f1_mean == pytest.approx((2 / 3 + 2 / 5) / 2)
    assert made.confusion == [[3, 1, 0], [1, 1, 0], [0, 0, 0]]
    plain = score_all(evaluations)["GM"]
    assert (plain.macro_f1, plain.macro_f1_mean, plain.confusion) == (None, None, None)
