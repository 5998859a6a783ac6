"""What panels are drawn from."""

import numpy as np

from strata.cluster.report.panels import rolling


def test_a_rolling_mean_looks_back():
    values = np.array([[3.0, 1.0, 2.0, 6.0]])
    assert rolling(values, 2).tolist() == [[3.0, 2.0, 1.5, 4.0]]
    assert rolling(values, 1).tolist() == values.tolist()
