"""Trees of tensors and numbers: what crosses the network, and what is kept between rounds.

A tree is a tensor, a number, a string, None, or a dataclass, dict, list or tuple of trees. Everything here walks trees
in one fixed order, so bytes, hashes and files do not depend on how a tree was built.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Leaf = Tensor | bool | int | float | str | None


def leaves(tree: object, path: str = "") -> Iterator[tuple[str, Leaf]]:
    """All leaves of a tree with their paths, in a fixed order (dict keys sorted by their text).

    Raises:
        TypeError: for a leaf that is neither tensor, number, string nor None.
    """
    if tree is None or isinstance(tree, Tensor | bool | int | float | str):
        yield path, tree
    elif dataclasses.is_dataclass(tree):
        for field in dataclasses.fields(tree):
            yield from leaves(getattr(tree, field.name), f"{path}.{field.name}")
    elif isinstance(tree, Mapping):
        for key in sorted(tree, key=str):
            yield from leaves(tree[key], f"{path}[{key}]")
    elif isinstance(tree, Sequence):
        for index, item in enumerate(tree):
            yield from leaves(item, f"{path}[{index}]")
    else:
        raise TypeError(
            f"{path or 'message'}: a {type(tree).__name__} cannot cross the network; use tensors and numbers"
        )


def map_leaves(tree: object, change: Callable[[object], object]) -> object:
    """The same tree with every leaf replaced by ``change(leaf)``."""
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        fields = {f.name: map_leaves(getattr(tree, f.name), change) for f in dataclasses.fields(tree)}
        return type(tree)(**fields)
    if isinstance(tree, Mapping):
        return {key: map_leaves(value, change) for key, value in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_make"):  # a named tuple
        return tree._make(map_leaves(item, change) for item in tree)
    if isinstance(tree, list | tuple):
        return type(tree)(map_leaves(item, change) for item in tree)
    return change(tree)


def count_bytes(message: object) -> int:
    """Bytes a message takes on the wire: tensors at their size, numbers at 8, booleans at 1, text in UTF-8."""
    return sum(_leaf_bytes(leaf) for _, leaf in leaves(message))


def _leaf_bytes(leaf: Leaf) -> int:
    if leaf is None:
        return 0
    if isinstance(leaf, Tensor):
        return int(leaf.nbytes)
    if isinstance(leaf, str):
        return len(leaf.encode())
    return 1 if isinstance(leaf, bool) else 8


class OnWire:
    """A tensor on its way between processes, as an array that travels without being copied."""

    __slots__ = ("array",)

    def __init__(self, array: NDArray[np.generic]) -> None:
        """Wrap it, so that what arrives can tell tensors from arrays."""
        self.array = array

    def tensor(self) -> Tensor:
        """The tensor."""
        # What comes out of Ray's object store is a read-only view; torch would let a method write to it, and crash.
        return torch.from_numpy(self.array if self.array.flags.writeable else self.array.copy())


def to_wire(message: object) -> object:
    """The message with tensors as :class:`OnWire`; everything else stays as it is."""
    return map_leaves(message, lambda leaf: OnWire(leaf.detach().cpu().numpy()) if isinstance(leaf, Tensor) else leaf)


def from_wire(message: object) -> object:
    """Inverse of :func:`to_wire`."""
    return map_leaves(message, lambda leaf: leaf.tensor() if isinstance(leaf, OnWire) else leaf)


def fingerprint(tree: object) -> str:
    """SHA-256 over every path, type, shape and value of a tree: equal to the bit, or different."""
    digest = hashlib.sha256()
    for path, leaf in leaves(tree):
        digest.update(path.encode())
        if isinstance(leaf, Tensor):
            array = leaf.detach().cpu().contiguous().numpy()
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(array.tobytes())
        else:
            digest.update(f"{type(leaf).__name__}{leaf!r}".encode())
    return digest.hexdigest()
