"""Stages of compression: how a tensor of changes is coded, what is decoded of it, and how many bytes the code takes.

# n numbers of a tensor, k of them kept; a matrix (m, n) of rank r; s levels on each side of 0

A code is one or two tensors of numbers, and beside them what says where they belong. A stage is applied to a tensor
only where its code is smaller; that is decided by shapes alone, so a call is priced without being made.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from strata.engine.seeding import generator

BITS_PER_BYTE = 8
POSITION_BYTES = 4


@dataclass(frozen=True)
class Layout:
    """What a code is made of.

    Attributes:
        shape: of the tensor that is coded.
        parts: how many numbers each of its tensors holds.
        itemsize: bytes of a number that is not quantised.
        bits: of each number as it is coded.
        beside_bytes: positions and scales.
    """

    shape: tuple[int, ...]
    parts: tuple[int, ...]
    itemsize: int
    bits: int
    beside_bytes: int = 0

    @property
    def bytes(self) -> int:
        """Bytes of the code; each of its tensors ends with a whole byte."""
        return self.beside_bytes + sum(math.ceil(part * self.bits / BITS_PER_BYTE) for part in self.parts)


@dataclass(frozen=True)
class Coded:
    """A tensor as it travels.

    Attributes:
        shape: of the tensor.
        values: itself, those of its numbers that were kept ``(k,)``, or two factors ``(m, r)`` and ``(r, n)``.
        positions: of the numbers that were kept, ascending, ``(k,)``; None where all were.
    """

    shape: tuple[int, ...]
    values: tuple[Tensor, ...]
    positions: Tensor | None = None

    def decoded(self) -> Tensor:
        """The tensor that whoever receives the code makes of it."""
        if self.positions is not None:
            kept = self.values[0]
            return kept.new_zeros(math.prod(self.shape)).index_copy_(0, self.positions, kept).reshape(self.shape)
        if len(self.values) == 2:
            return (self.values[0] @ self.values[1]).reshape(self.shape)
        return self.values[0].reshape(self.shape)


class Stage(Protocol):
    """One stage of compression."""

    def layout(self, before: Layout) -> Layout:
        """What the code becomes."""

    def coded(self, before: Coded, seed: int) -> Coded:
        """The code of a tensor, whose draws derive from ``seed``; codes before are not changed."""


@dataclass(frozen=True)
class TopK:
    """The numbers of largest magnitude alone: ``share`` of a tensor's, rounded up.

    Where they belong is said by positions of 4 bytes each, or by one bit for each number of the tensor, whichever is
    less.
    """

    share: float

    def _kept(self, numbers: int) -> int:
        return min(numbers, math.ceil(self.share * numbers))

    def layout(self, before: Layout) -> Layout:
        """The numbers that are kept, and where they belong."""
        numbers = math.prod(before.shape)
        kept = self._kept(numbers)
        beside = min(POSITION_BYTES * kept, math.ceil(numbers / BITS_PER_BYTE))
        return replace(before, parts=(kept,), beside_bytes=before.beside_bytes + beside)

    def coded(self, before: Coded, seed: int) -> Coded:
        """The largest numbers; nothing is drawn."""
        flat = before.values[0].reshape(-1)
        positions = flat.abs().topk(self._kept(len(flat))).indices.sort().values
        return Coded(before.shape, (flat[positions],), positions)


@dataclass(frozen=True)
class LowRank:
    """The ``rank`` largest singular values of each matrix, as two factors; convolutions are (out, all else)."""

    rank: int

    def layout(self, before: Layout) -> Layout:
        """Factors (m, r) and (r, n); a tensor with less than two dimensions stays as it is."""
        if len(before.shape) < 2:
            return before
        rows, columns = before.shape[0], math.prod(before.shape[1:])
        return replace(before, parts=(rows * self.rank, self.rank * columns))

    def coded(self, before: Coded, seed: int) -> Coded:
        """U·Σ and Vᵀ of the truncated singular value decomposition; nothing is drawn."""
        left, sizes, right = torch.linalg.svd(before.values[0].reshape(before.shape[0], -1), full_matrices=False)
        return Coded(before.shape, (left[:, : self.rank] * sizes[: self.rank], right[: self.rank]))


@dataclass(frozen=True)
class Quantise:
    """Whole numbers of ``bits`` bits for each number, and a scale for each tensor, without bias.

    As QSGD's (Alistarh et al., arXiv 1610.02132), but scaled by the largest magnitude a instead of the norm: with
    s = 2^(bits − 1) − 1 levels on each side, v becomes ⌊s·|v|/a + u⌋ · sign(v) with u uniform in [0, 1), which is
    decoded as a/s times that: its expectation is v.
    """

    bits: int

    def layout(self, before: Layout) -> Layout:
        """The same numbers with so many bits each, and a scale for each tensor of the code."""
        beside = before.beside_bytes + before.itemsize * len(before.parts)
        return replace(before, bits=self.bits, beside_bytes=beside)

    def coded(self, before: Coded, seed: int) -> Coded:
        """What is decoded of the numbers of each tensor of the code."""
        return replace(before, values=tuple(self._one(v, seed, place) for place, v in enumerate(before.values)))

    def _one(self, values: Tensor, seed: int, place: int) -> Tensor:
        numbers = values.detach().numpy().astype(np.float64)
        largest = np.abs(numbers).max(initial=0.0)
        if not largest:
            return values
        levels = 2 ** (self.bits - 1) - 1
        draws = generator(seed, "quantise", place).random(numbers.shape)
        wholes = np.minimum(np.floor(np.abs(numbers) / largest * levels + draws), levels)
        return torch.from_numpy(np.sign(numbers) * wholes * (largest / levels)).to(values.dtype)


@lru_cache(maxsize=4096)
def chosen(stages: tuple[Stage, ...], shape: tuple[int, ...], itemsize: int) -> tuple[Layout, tuple[Stage, ...]]:
    """What the code of a tensor of this shape is made of, and by which of some stages: those that make it smaller."""
    layout = Layout(shape, (math.prod(shape),), itemsize, BITS_PER_BYTE * itemsize)
    taken = []
    for stage in stages:
        after = stage.layout(layout)
        if after.bytes < layout.bytes:
            layout = after
            taken.append(stage)
    return layout, tuple(taken)


def code(stages: Sequence[Stage], tensor: Tensor, seed: int) -> Coded:
    """The code of a tensor, ``(…)`` of finite floats, after those stages that make it smaller."""
    coded = Coded(tuple(tensor.shape), (tensor,))
    for stage in chosen(tuple(stages), tuple(tensor.shape), tensor.element_size())[1]:
        coded = stage.coded(coded, seed)
    return coded
