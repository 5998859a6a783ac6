"""Clients side by side: each is a lane of the same tensors, and smaller batches are filled up with rows of no weight.

# N lanes, S steps of the longest lane, P rows of a filled batch
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from strata.engine.data.dataset import IntArray
from strata.engine.method.losses import Batch
from strata.engine.training.batches import Fetch

LEAST = 2
"""Lanes that are computed at least: torch takes another way for a single one, which gives other bits."""

SHRINK = 0.75
"""The share of the lanes still at work below which those that are done are no longer computed along."""


def padded(n: int, most: int) -> int:
    """Rows to which batches of a client with ``n`` samples are filled up: a power of two, or the ``most`` they may be.

    It rests on this client alone, so that its bits do not depend on who else is in a cohort.
    """
    return min(most, 1 << max(0, n - 1).bit_length())


def at_least(order: list[int]) -> list[int]:
    """The lanes of these clients: a lone one is computed twice."""
    return order if len(order) >= LEAST else order * LEAST


def in_order(n: int, width: int) -> list[IntArray]:
    """Positions 0..n-1, ``width`` at a time."""
    return [np.arange(first, min(n, first + width)) for first in range(0, n, width)]


def side_by_side(
    like: Mapping[str, Tensor], lanes: Sequence[Mapping[str, Tensor]], device: torch.device
) -> dict[str, Tensor]:
    """The tensors of several lanes by name, as one ``(N, ...)`` each; of the types of ``like``, on a device."""
    return {name: _joined([one[name] for one in lanes], device, value.dtype) for name, value in like.items()}


def _joined(tensors: Sequence[Tensor], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Tensors of several lanes as one ``(N, ...)``, in memory of its own; a shared one is moved once."""
    first = tensors[0]
    if all(tensor is first for tensor in tensors):
        return first.to(device, dtype).expand(len(tensors), *first.shape).contiguous()
    return torch.stack(list(tensors)).to(device, dtype)


def apart(values: Tensor) -> Sequence[Tensor]:
    """The lanes of values (N, ...), on the CPU, each in memory of its own."""
    if values.is_cuda:  # into memory that the system does not move, or it would take fifteen times as long
        values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True).copy_(values)
    lanes: Sequence[Tensor] = torch.ops.aten.unbind_copy.int(values)
    return lanes


@dataclass(frozen=True)
class Weighed(Batch):
    """A batch with rows that do not count: ``weights`` (P,) is 1/n for the n rows that do, and 0 for the others."""

    weights: Tensor | None = None

    def mean(self, values_B: Tensor) -> Tensor:
        """The mean over the rows that count."""
        assert self.weights is not None
        return (values_B * self.weights).sum()


@dataclass(frozen=True)
class Lanes:
    """What several clients see in which step; those with more steps come first.

    Attributes:
        index: ``(S, N, P)`` int64: which samples.
        fetch: gives samples by flat numbers out of ``index``: inputs as a model takes them, and targets.
        weights: ``(S, N, P)`` float32, see :class:`Weighed`.
        steps: of each lane, descending.
    """

    index: Tensor
    fetch: Fetch
    weights: Tensor
    steps: Sequence[int]

    def part(self, block: slice) -> "Lanes":
        """Some lanes that follow each other."""
        steps = self.steps[block]
        return Lanes(self.index[: steps[0], block], self.fetch, self.weights[: steps[0], block], steps)

    def batch(self, step: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs and targets (width, P, ...) and weights (width, P) of a step of the first ``width`` lanes."""
        index = self.index[step, :width]
        x, y = self.fetch(index.reshape(-1))
        return x.unflatten(0, (width, -1)), y.unflatten(0, (width, -1)), self.weights[step, :width]

    @cached_property
    def active(self) -> list[int]:
        """How many lanes have each step: the first so many of them."""
        steps = np.asarray(self.steps)
        return [int((steps > step).sum()) for step in range(len(self.weights))]


class Numbered(Protocol):
    """Rows of a data set, as :class:`~strata.engine.training.batches.Rows` numbers them."""

    device: torch.device

    def numbered(self, rows: IntArray, seen: int) -> tuple[IntArray, Fetch]:
        """A number (n,) for each of ``rows``, and what gives samples by these."""


def lay(rows: Numbered, of: Sequence[IntArray], plans: Sequence[Sequence[IntArray]], width: int) -> Lanes:
    """Lanes of clients that hold the rows ``of`` them, and see positions among those by ``plans`` (one per step).

    Args:
        rows: of the data set.
        of: rows by lane, ``(n,)`` each.
        plans: positions of each step by lane; the lanes are in descending order of their steps.
        width: rows to which each step's batch is filled up.
    """
    steps = [len(plan) for plan in plans]
    starts = np.cumsum([0, *map(len, of)])[:-1]
    index = np.empty((max(steps), len(plans), width), np.int64)
    index[:] = starts[:, None]
    weights = np.zeros(index.shape, np.float32)
    alike: dict[tuple[int, ...], list[int]] = {}
    for lane, plan in enumerate(plans):
        alike.setdefault(tuple(map(len, plan)), []).append(lane)
    for sizes, lanes in alike.items():
        seen = np.array([np.concatenate(plans[lane]) for lane in lanes]) + starts[lanes][:, None]
        _spread(seen, np.array(sizes), lanes, index, weights)
    everything = np.concatenate(of)
    weighed = torch.from_numpy(weights).to(rows.device)
    numbers, fetch = rows.numbered(everything, index.size)
    return Lanes(torch.from_numpy(numbers[index]).to(rows.device), fetch, weighed, steps)


def _spread(
    seen: IntArray, sizes: IntArray, lanes: Sequence[int], index: IntArray, weights: NDArray[np.float32]
) -> None:
    """Write into index and weights ``(S, N, P)`` what lanes see whose batches are of the same ``sizes`` (steps,).

    ``seen`` (lanes, rows) are the rows of all their batches, one after the other.
    """
    firsts = sizes.cumsum() - sizes
    step = np.repeat(np.arange(len(sizes)), sizes)
    place = np.arange(len(step)) - firsts[step]
    # What fills a batch up is a row of its own: another batch's may be infinite.
    index[: len(sizes), lanes] = seen.T[firsts][:, :, None]
    at = step[:, None], np.asarray(lanes), place[:, None]
    index[at] = seen.T
    weights[at] = (np.float32(1) / sizes.astype(np.float32))[step][:, None]


def means(values: Tensor, weights: Tensor) -> NDArray[np.float64]:
    """The mean of the values ``(S, N, P)`` that count, ``(S, N)``: of float32 summed as float64, so in any order."""
    counts = weights > 0
    sums = values.to(torch.float64).masked_fill(~counts, 0.0).sum(-1)
    result: NDArray[np.float64] = (sums / counts.sum(-1).clamp(min=1)).cpu().numpy()
    return result


def to_width(rows: Tensor, lanes: int) -> Tensor:
    """Losses of the lanes that were computed, with zeros for the others."""
    return rows if len(rows) == lanes else F.pad(rows, (0, 0, 0, lanes - len(rows)))
