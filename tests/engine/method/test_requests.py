"""What is counted of a client's work, and what its answers say."""

from dataclasses import FrozenInstanceError

import pytest

from strata.engine.method.length import Length
from strata.engine.method.losses import task_loss
from strata.engine.method.requests import Evaluation, Sgd, Train, Work


def test_accuracy_is_the_share_that_is_right():
    assert Evaluation(3, 8, 1.0).accuracy == 0.375


def test_the_loss_of_work_is_the_mean_of_its_steps_and_there_is_none_before_the_first():
    work = Work()
    assert work.loss is None
    for loss in (4.0, 1.0, 2.5):
        work.steps += 1
        work.loss_sum += loss
    assert work.loss == pytest.approx(7.5 / 3)


def test_work_that_cost_something_and_trained_nothing_has_no_loss():
    assert Work(flops=10, samples=3).loss is None


def test_a_plain_request_trains_everything_by_the_loss_of_the_task_with_nothing_beside():
    request = Train(None, {}, Sgd(0.1), 8, Length(1))
    assert request.loss is task_loss
    assert (request.trainable, request.frozen, request.pull, dict(request.constants)) == (None, (), (), {})
    with pytest.raises(FrozenInstanceError):
        request.batch_size = 9
