"""What all trainers share: which clients' parameters are finite."""

import pytest
import torch

from strata.engine.training.trainer import are_finite

LARGEST = torch.finfo(torch.float32).max


@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan")])
def test_a_lane_with_one_value_that_is_not_finite_is_told_from_the_others(bad):
    values = torch.ones(3, 4, 5)
    values[1, 2, 3] = bad
    assert are_finite(values) == [True, False, True]


def test_infinities_that_cancel_are_seen():
    values = torch.ones(2, 3)
    values[0, :2] = torch.tensor([float("inf"), -float("inf")])
    assert are_finite(values) == [False, True]


def test_finite_values_whose_sum_is_not_are_finite():
    assert are_finite(torch.full((2, 3), LARGEST)) == [True, True]


@pytest.mark.parametrize("shape", [(2,), (2, 0), (2, 0, 3)])
def test_a_number_per_lane_and_nothing_at_all_are_finite(shape):
    assert are_finite(torch.zeros(shape)) == [True, True]
