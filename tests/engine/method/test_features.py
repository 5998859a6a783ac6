"""What agents see, by client."""

import numpy as np

from strata.engine.method.features import pad_rows, relative


def test_padding_marks_who_is_there_and_clips():
    rows = pad_rows([np.array([0.5, -100.0]), np.array([1.0, 100.0])], 3)
    assert rows.tolist() == [[1, 0.5, 1], [1, -8, 8], [0, 0, 0]]
    assert rows.dtype == np.float32


def test_relative_features():

    ratio, logarithm = relative(np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(ratio, [-0.5, 0, 0.5])
    np.testing.assert_allclose(logarithm, np.log([0.5, 1, 1.5]))
    # A federation in which no time passes: everyone is as fast as the others, and nothing warns.
    assert [part.tolist() for part in relative(np.zeros(2))] == [[0, 0], [0, 0]]
    assert np.isfinite(relative(np.array([0.0, 2.0]))[1]).all()
