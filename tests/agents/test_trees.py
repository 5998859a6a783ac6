"""Trees of arrays."""

import numpy as np
import torch

from strata.agents.trees import from_tree, to_tree


def test_trees_come_back_as_they_were():
    tree = {"a": [np.arange(3), np.float32(1.5)], "b": {0: (0.9, None, True)}, "numpy": "text", "c": torch.ones(2)}
    back = from_tree(to_tree(tree))
    assert back["a"][0].tolist() == [0, 1, 2]
    assert back["a"][0].dtype == np.int64
    assert (back["a"][1].dtype, float(back["a"][1])) == (np.float32, 1.5)
    assert back["b"] == {0: (0.9, None, True)}
    assert back["numpy"] == "text"
    assert isinstance(back["c"], torch.Tensor)
