"""Clients as lanes: each sees its own rows in its own order, and what fills up a smaller batch weighs nothing."""

import numpy as np
import pytest
import torch

from strata.engine.data.dataset import Dataset
from strata.engine.training.batches import Rows
from strata.engine.training.lanes import Weighed, lay, means, padded

DATA = Dataset("made", np.arange(20, dtype=np.float32)[:, None], np.arange(20) % 3, 3)


@pytest.mark.parametrize(
    ("n", "most", "rows"), [(1, 10, 1), (2, 10, 2), (3, 10, 4), (5, 10, 8), (9, 10, 10), (50, 10, 10), (17, 32, 32)]
)
def test_batches_are_filled_to_a_power_of_two_or_the_most(n, most, rows):
    assert padded(n, most) == rows


def test_each_lane_sees_its_rows_in_its_order():
    of = [np.array([4, 5, 6, 7]), np.array([10, 11, 12])]
    plans = [[np.array([3, 0]), np.array([1, 2])], [np.array([2, 1])]]
    lanes = lay(Rows(DATA, torch.device("cpu")), of, plans, 3)
    assert lanes.steps == [2, 1]
    assert lanes.active == [2, 1]
    x, y, weights = lanes.batch(0, 2)
    assert x[:, :2, 0].tolist() == [[7, 4], [12, 11]]
    assert y[:, :2].tolist() == [[7 % 3, 4 % 3], [12 % 3, 11 % 3]]
    assert weights.tolist() == [[0.5, 0.5, 0], [0.5, 0.5, 0]]
    x, _, weights = lanes.batch(1, 2)
    assert x[0, :2, 0].tolist() == [5, 6]
    assert weights[1].tolist() == [0, 0, 0]  # it is done


def test_what_fills_a_batch_does_not_count():
    values = torch.tensor([1.0, 5.0, 999.0])
    batch = Weighed(torch.zeros(3, 1), torch.zeros(3), {}, torch.tensor([0.5, 0.5, 0.0]))
    assert batch.mean(values) == 3.0
    losses = means(values.expand(1, 1, 3), torch.tensor([[[0.5, 0.5, 0.0]]]))
    assert losses.tolist() == [[3.0]]
    infinite = means(torch.tensor([[[1.0, float("inf")]]]), torch.tensor([[[1.0, 0.0]]]))
    assert infinite.tolist() == [[1.0]]
