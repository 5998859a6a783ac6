"""Clusters of vectors by direction, on vectors whose clusters are known.

# C vectors, T clusters
"""

import numpy as np
import pytest

from strata.engine.data.teams.clusters import cosine_clusters, cosines, unit_rows
from strata.engine.seeding import generator

ANGLES = np.deg2rad([0, 3, 90, 93, 96, 180, 184, 187, 190])
FAN = np.stack([np.cos(ANGLES), np.sin(ANGLES)], 1) * np.arange(1, 10)[:, None]  # lengths do not count
GROUPS = [{0, 1}, {2, 3, 4}, {5, 6, 7, 8}]


def found(vectors, clusters, balanced, seed=0):
    """The clusters as sets of rows, by their smallest row."""
    labels = cosine_clusters(vectors, clusters, generator(seed, "test"), balanced=balanced)
    assert labels.shape == (len(vectors),)
    return sorted(
        ({*np.flatnonzero(labels == t).tolist()} for t in range(clusters)), key=lambda one: min(one, default=-1)
    )


def test_cosines_are_those_of_the_angles_between():
    np.testing.assert_allclose(cosines(FAN), np.cos(ANGLES[:, None] - ANGLES), atol=1e-12)
    with_nothing = cosines(np.array([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(with_nothing, [[1, 0], [0, 0]])
    many = generator(0, "many").normal(size=(200, 3)).astype(np.float32)
    assert np.abs(cosines(many)).max() == 1.0  # and no more by rounding


def test_rows_have_length_one_and_nothing_stays_nothing():
    rows = unit_rows(np.array([[3, 4], [0, 0]], np.float32))
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, 0]])
    assert rows.dtype == np.float32


@pytest.mark.parametrize("seed", range(4))
def test_directions_that_lie_apart_are_told_apart(seed):
    assert found(FAN, 3, balanced=False, seed=seed) == GROUPS


def test_only_directions_to_each_other_count_in_however_many_dimensions():
    vectors = generator(1, "vectors").normal(size=(20, 6))
    turn = np.linalg.qr(generator(2, "turn").normal(size=(40, 40)))[0][:6]  # into more dimensions than vectors
    for balanced in (False, True):
        assert found(vectors @ turn, 4, balanced) == found(vectors, 4, balanced)


@pytest.mark.parametrize("clusters", [1, 2, 3, 4, 7, 9])
def test_balanced_clusters_differ_by_one_at_most_and_others_are_at_least_not_empty(clusters):
    sizes = [len(one) for one in found(FAN, clusters, balanced=True)]
    assert sum(sizes) == 9
    assert max(sizes) - min(sizes) <= 1
    assert min(len(one) for one in found(FAN, clusters, balanced=False)) >= 1


def test_balanced_clusters_keep_together_what_fits():
    pairs = np.array([[1, 0], [0, 1], [1, 0.1], [0.1, 1]], float)
    assert found(pairs, 2, balanced=True) == [{0, 2}, {1, 3}]


@pytest.mark.parametrize("balanced", [False, True])
def test_vectors_that_are_all_alike_are_dealt_out_nevertheless(balanced):
    assert min(len(one) for one in found(np.ones((6, 3)), 4, balanced)) >= 1
    assert min(len(one) for one in found(np.zeros((6, 3)), 4, balanced)) >= 1
