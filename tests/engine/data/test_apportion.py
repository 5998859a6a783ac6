"""Whole numbers in given proportions: closed forms."""

import numpy as np
import pytest

from strata.engine.data.apportion import apportion, fill_evenly, top_up


def test_top_up_takes_the_class_that_the_short_client_holds():
    y = np.array([0] * 10 + [1] * 10)
    parts = [np.array([0]), np.arange(1, 10), np.arange(10, 20)]
    filled = top_up(parts, y, 2, minimum=4)
    assert [len(rows) for rows in filled] == [4, 6, 10]
    assert (y[filled[0]] == 0).all()


def test_apportion_by_largest_remainder():
    assert apportion(10, np.array([1.0, 1.0, 1.0])).tolist() == [4, 3, 3]
    assert apportion(10, np.array([5.0, 3.0, 0.0]), floor=1).tolist() == [5, 4, 1]  # 7·5/8 = 4.375, 7·3/8 = 2.625
    assert apportion(3, np.zeros(2)).tolist() == [2, 1]
    with pytest.raises(ValueError, match=r"3 shares of at least 4 do not fit into 10"):
        apportion(10, np.ones(3), floor=4)


def test_fill_evenly():
    assert fill_evenly(10, np.array([2, 9, 9])).tolist() == [2, 4, 4]
    assert fill_evenly(99, np.array([1, 2])).tolist() == [1, 2]
    assert fill_evenly(2, np.array([5, 5, 5])).tolist() == [1, 1, 0]
