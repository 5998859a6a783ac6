"""RLlib's states as the trees that a checkpoint can keep: numpy arrays become tensors and back."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def to_tree(state: object) -> object:
    """Nested dicts, lists and tuples with arrays → the same with tensors; arrays and scalars are marked."""
    if isinstance(state, Mapping):
        return {key: to_tree(value) for key, value in state.items()}
    if isinstance(state, list):
        return [to_tree(item) for item in state]
    if isinstance(state, tuple):
        return tuple(to_tree(item) for item in state)
    if isinstance(state, np.ndarray | np.generic):
        return {"numpy": torch.from_numpy(np.array(state))}
    return state


def from_tree(tree: object) -> Any:
    """The inverse of :func:`to_tree`; numpy scalars come back as arrays without dimensions."""
    if isinstance(tree, Mapping):
        if set(tree) == {"numpy"}:
            return tree["numpy"].numpy()
        return {key: from_tree(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [from_tree(item) for item in tree]
    if isinstance(tree, tuple):
        return tuple(from_tree(item) for item in tree)
    return tree
