"""Which class was taken for which, counted by hand."""

import numpy as np
import pytest

from strata.engine.evaluation.counts import asking_for, macro_f1, matrix_of, pairs_of
from strata.engine.method.length import Length
from strata.engine.method.requests import Evaluate, Sgd, Train

#            true       predicted
FIRST = np.array([[0, 0, 2], [0, 1, 2]])
SECOND = np.array([[2, 0], [0, 0]])
PAIRS = ((0, 0, 2), (0, 1, 1), (2, 0, 1), (2, 2, 1))


def test_pairs_are_counted_over_batches():
    assert pairs_of([FIRST, SECOND]) == PAIRS
    assert pairs_of([]) == ()
    assert all(type(number) is int for pair in pairs_of([FIRST]) for number in pair)


def test_a_matrix_has_true_classes_as_rows_and_adds_up_what_comes_twice():
    assert matrix_of([*PAIRS, (2, 0, 3)], 4).tolist() == [[2, 1, 0, 0], [0, 0, 0, 0], [4, 0, 1, 0], [0, 0, 0, 0]]


def test_f1_is_a_mean_over_the_classes_that_occur():
    # Class 0: 2 right of 3, predicted 3 times: 4/6. Class 1: never true, predicted once: 0. Class 2: 1 right of 2,
    # predicted once: 2/3. Class 3 does not occur.
    assert macro_f1(PAIRS) == pytest.approx((4 / 6 + 0 + 2 / 3) / 3)
    assert macro_f1([(1, 1, 5)]) == 1.0
    assert macro_f1([(1, 1, 2), (1, 1, 3)]) == 1.0
    assert macro_f1([(1, 0, 5)]) == 0.0


def test_each_model_of_an_evaluation_is_asked_for_its_pairs_and_nothing_else_changes():
    train = Train("model", {}, Sgd(0.1), 4, Length(1))

    def steps():
        first = yield Evaluate("model", {})
        second = yield train
        return first, second

    further = (("largest", max),)
    asking = asking_for(steps(), True, further)
    assert asking.send(None) == Evaluate("model", {}, pairs=True, further=further)
    assert asking.send("one") is train
    with pytest.raises(StopIteration) as stopped:
        asking.send("two")
    assert stopped.value.value == ("one", "two")
