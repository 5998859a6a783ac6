"""Means of parameters, and parameters as one vector."""

import pytest
import torch

from strata.engine.params import flatten, unflatten, uniform_mean, weighted_mean


def test_means_weigh():
    trees = [{"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([5.0, 6.0])}]
    assert weighted_mean(trees, [3, 1])["w"].tolist() == [2.0, 3.0]
    assert uniform_mean(trees)["w"].tolist() == [3.0, 4.0]
    assert trees[0]["w"].tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="cannot average 0 models"):
        weighted_mean([], [])
    with pytest.raises(ValueError, match="weights that sum to 0"):
        weighted_mean(trees, [0, 0])


def test_flatten_and_back():
    tree = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor([7.0])}
    vector = flatten(tree)
    assert vector.tolist() == [0, 1, 2, 3, 4, 5, 7]
    assert all(torch.equal(unflatten(vector, tree)[name], tree[name]) for name in tree)
