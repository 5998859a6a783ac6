"""Parameters of models, by name: means of several, which are exact sums rounded once, and one long vector."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from strata.engine.tree import only_read

Params = dict[str, Tensor]
"""Parameters and floating-point buffers of one model, by name."""

SUMMED = frozenset({torch.float32, torch.float16, torch.bfloat16})
"""Types whose values, times whole numbers, are added up exactly."""
HEADROOM = 53 - 23  # bits of a float64 beyond those of a float32 that lie below its first
IN_CACHE = 2**14  # values of float64 that are compared at a time
AT_ONCE = 2**16  # values of each model that are added up at a time, so that they stay in the processor's cache
AS_ROWS = 2**13  # values of a model up to which many of them are copied into one matrix, whose operations are fewer
MANY = 8  # models for which that is worth it
BLOCK = 2**17  # values of that matrix that are added up at a time


@dataclass(frozen=True)
class Limb:
    """A part of an exact sum: ``values`` (d,) at some ``columns`` (d,) of it, ascending; None: at all of them.

    Arrays, because what travels is read where it arrives, and not copied first as tensors are: nobody writes to them.
    """

    values: NDArray[np.float64]
    columns: NDArray[np.int64] | None = None


class ExactSum:
    """A sum of models times whole numbers, exact, so that no bit rests on their order or on who added up which.

    It is held in vectors of float64 ``(D,)`` whose own sum is the exact one. The first holds nearly all of it, each
    other what additions to the one before have lost by rounding, as a rule nothing. What is not finite is in the first.
    """

    def __init__(self) -> None:
        """A sum of nothing."""
        self._whole: list[Tensor] = []
        self._borrowed = False  # whether the first is somebody else's

    def add(self, models: Sequence[Sequence[Tensor]], weights: Sequence[float]) -> None:
        """Add models, alike tensors of types in :data:`SUMMED`, each times a whole number below 2^29."""
        sizes, device = [tensor.numel() for tensor in models[0]], next((one.device for one in models[0]), None)
        total = torch.empty(sum(sizes), dtype=torch.float64, device=device)
        others, first = list[tuple[Tensor, Tensor]](), 0
        for run in _runs(sizes):
            for part in _parts([model[run.start : run.stop] for model in models]):
                columns, rows = _add_up(part, weights, total[first : first + len(part[0])])
                others += [(values, columns + first) for values in _distilled(rows)]
                first += len(part[0])
        self._add(total, None)
        for values, columns in others:
            self._add(values, columns)

    def take(self, limbs: Sequence[Limb]) -> None:
        """Add another sum, as its :meth:`limbs`."""
        for limb in limbs:
            self._borrowed |= not self._whole
            self._add(only_read(limb.values), None if limb.columns is None else only_read(limb.columns))

    def limbs(self) -> tuple[Limb, ...]:
        """What the sum is held in, of all but the first only what is not 0."""
        found = [vector.nonzero().flatten() for vector in self._whole[1:]]
        rest = [Limb(_array(vector[at]), _array(at)) for vector, at in zip(self._whole[1:], found, strict=True)]
        return tuple([Limb(_array(self._whole[0])), *rest])

    def rounded(self) -> Tensor:
        """The sum as a vector of float64, rounded once."""
        if len(self._whole) < 3:
            return sum(self._whole[1:], start=self._whole[0])
        total = self._whole[0] + self._whole[1]
        deep = torch.stack(self._whole[2:]).any(0).nonzero().flatten()
        parts = torch.stack([vector[deep] for vector in self._whole], 1).tolist()
        total[deep] = total.new_tensor([math.fsum(part) for part in parts])
        return total

    def _add(self, values: Tensor, columns: Tensor | None) -> None:
        """Add ``values`` (d,) at d columns; what each vector loses of them goes to the next."""
        for place, vector in enumerate(self._whole):
            if columns is None:
                self._whole[place], lost = _sum(vector, values)
            else:
                after, lost = _two_sum(vector[columns], values)
                if not place and self._borrowed:
                    self._whole[0] = vector.clone()
                self._whole[place][columns] = after
            self._borrowed = False
            at = lost.nonzero().flatten()
            if not len(at):
                return
            values, columns = lost[at], at if columns is None else columns[at]
        vector = values
        if columns is not None:
            vector = torch.zeros_like(self._whole[0])
            vector[columns] = values
        self._whole.append(vector)


def _array(values: Tensor) -> NDArray[Any]:
    return values.cpu().numpy()


def _sum(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """What :func:`_two_sum` gives of vectors (d,); where nothing is lost, as nearly always, in half of the time.

    Then, and only then, either is what the sum exceeds the other by. What was lost is empty in place of zeros.
    """
    total = torch.empty_like(one)
    for start in range(0, len(one), IN_CACHE):
        part = slice(start, start + IN_CACHE)
        added = torch.add(one[part], other[part], out=total[part])
        if not (torch.equal(added - one[part], other[part]) and torch.equal(added - other[part], one[part])):
            return _two_sum(one, other)
    return total, total[:0]


def _runs(sizes: Sequence[int]) -> list[range]:
    """Which of a model's tensors are added up together: those that follow each other, as far as they are small."""
    runs: list[range] = []
    held = 0
    for place, size in enumerate(sizes):
        held += size
        if runs and held <= AT_ONCE:
            runs[-1] = range(runs[-1].start, place + 1)
        else:
            runs.append(range(place, place + 1))
            held = size
    return runs


def _parts(models: Sequence[Sequence[Tensor]]) -> Iterator[Tensor | list[Tensor]]:
    """Models as what is added up at a time: the rows of a matrix (k, d), or k vectors (d,)."""
    count, size = len(models), sum(tensor.numel() for tensor in models[0])
    if count >= MANY and size <= AS_ROWS:
        yield torch.cat([torch.stack(tensors).view(count, -1) for tensors in zip(*models, strict=True)], 1)
    elif len(models[0]) > 1:  # tensor by tensor, each would take as long as all of them
        flat = [tensor.reshape(-1) for model in models for tensor in model]
        yield list(torch.cat(flat).view(count, -1).unbind())
    else:
        vectors = [tensor.reshape(-1) for (tensor,) in models]
        for start in range(0, size, AT_ONCE):
            yield [vector[start : start + AT_ONCE] for vector in vectors]


def _add_up(part: Tensor | list[Tensor], weights: Sequence[float], total: Tensor) -> tuple[Tensor, Tensor]:
    """Let ``total`` (d,) be the sum of k vectors times whole numbers, but 0 in the columns where it might be rounded.

    Values of at least 2^t are multiples of 2^(t−23), and so are their products with whole numbers; a float64 holds all
    multiples of that up to 2^53 of them. So nothing is rounded where the values of a column are of like size, or 0.

    Returns:
        those columns (c,), ascending, as a rule hardly any; and their terms (k, c).
    """
    factors = total.new_tensor(weights)
    if isinstance(part, Tensor):
        least, largest = _summed_as_rows(part, factors, total)
    else:
        least, largest = _summed_one_by_one(part, weights, total)
    weight_bits = math.ceil(math.log2(max(1.0, sum(map(abs, weights)))))
    largest = largest.float().mul_(math.ldexp(1.0, 1 + weight_bits - HEADROOM))
    at = (least < largest).nonzero().flatten()
    if not len(at):
        return at, total[at][:0, None]
    rows = part[:, at] if isinstance(part, Tensor) else torch.stack([vector[at] for vector in part])
    small = ((rows.abs() < largest[at]) & (rows != 0)).any(0)
    total[at[small]] = 0
    return at[small], rows[:, small].double() * factors[:, None]


def _summed_as_rows(rows: Tensor, factors: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
    """Let ``total`` (d,) be the sum of rows (k, d) times numbers (k,); gives each column's least and largest size."""
    least, largest = (rows.new_empty(len(total)) for _ in range(2))
    width = max(1, BLOCK // len(rows))
    for columns in (slice(start, start + width) for start in range(0, len(total), width)):
        block = rows[:, columns]
        torch.mv(block.double().t(), factors, out=total[columns])
        sizes = block.abs()
        torch.amin(sizes, 0, out=least[columns])
        torch.amax(sizes, 0, out=largest[columns])
    return least, largest


def _summed_one_by_one(vectors: Sequence[Tensor], weights: Sequence[float], total: Tensor) -> tuple[Tensor, Tensor]:
    """As :func:`_summed_as_rows`, for vectors (d,)."""
    largest = vectors[0].abs()
    least, size = largest.clone(), torch.empty_like(largest)
    total.copy_(vectors[0]).mul_(weights[0])
    for vector, weight in zip(vectors[1:], weights[1:], strict=True):
        torch.abs(vector, out=size)
        torch.maximum(largest, size, out=largest)
        torch.minimum(least, size, out=least)
        total.add_(vector, alpha=weight)
    return least, largest


def _distilled(rows: Tensor) -> list[Tensor]:
    """Vectors (c,) of float64 that have the exact sum of the rows (k, c) of a matrix, as a rule two."""
    made = []
    while len(rows):
        lost = [rows[:0]]
        while len(rows) > 1:
            half = len(rows) // 2
            total, error = _two_sum(rows[:half], rows[half : 2 * half])
            lost.append(error)
            rows = torch.cat([total, rows[2 * half :]])
        made.append(rows[0])
        rows = torch.cat(lost)
        rows = rows[rows.any(1)]
    return made


def _two_sum(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of float64 numbers, and what rounding took from it, 0 of infinite ones (Knuth, TAOCP 2, 4.2.2)."""
    total = one + other
    taken = total - one
    return total, (one - (total - taken)).add_(other - taken).nan_to_num_(0.0, 0.0, 0.0)


def weighted_mean(trees: Sequence[Params], weights: Sequence[float]) -> Params:
    """The mean of several models' parameters, Σ w_i · tree_i / Σ w_i.

    Where all weights are whole numbers its sum is exact and rounded once: then neither the order matters nor whether
    some were added up before the others (:mod:`strata.engine.method.merging`). Else, and for float64, it is added up in
    the order given. All have the names and shapes of the first; none is changed.

    Raises:
        ValueError: when there is nothing to average, or the weights do not sum to something positive.
    """
    total = float(sum(weights))
    if not trees or total <= 0:
        raise ValueError(f"cannot average {len(trees)} models with weights that sum to {total}")
    if len(trees) == 1:  # as where uploads were merged
        return {name: value.clone() for name, value in trees[0].items()}
    models = [[tree[name] for name in trees[0]] for tree in trees]
    if all(float(weight).is_integer() for weight in weights) and is_summed(models[0]):
        summed = ExactSum()
        summed.add(models, weights)
        mean = cut(summed.rounded() / total, models[0])
    else:
        mean = [_in_order(same, [weight / total for weight in weights]) for same in zip(*models, strict=True)]
    return dict(zip(trees[0], mean, strict=True))


def is_summed(model: Sequence[Tensor]) -> bool:
    """Whether all tensors are of types in :data:`SUMMED`."""
    return all(tensor.dtype in SUMMED for tensor in model)


def _in_order(tensors: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    total = tensors[0] * shares[0]
    for tensor, share in zip(tensors[1:], shares[1:], strict=True):
        total.add_(tensor, alpha=share)
    return total


def uniform_mean(trees: Sequence[Params]) -> Params:
    """The mean of several models' parameters with equal weights; see :func:`weighted_mean`."""
    return weighted_mean(trees, [1.0] * len(trees))


def flatten(params: Params) -> Tensor:
    """All values as one vector ``(D,)``, in the order of the names as they stand."""
    return torch.cat([value.reshape(-1) for value in params.values()])


def unflatten(vector: Tensor, like: Params) -> Params:
    """Cut a vector ``(D,)`` into the names, shapes and types of ``like``: the inverse of :func:`flatten`."""
    return dict(zip(like, cut(vector, list(like.values())), strict=True))


def cut(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Cut a vector ``(D,)`` into tensors of the shapes and types of others; views of it where the type is its own."""
    parts = vector.split([one.numel() for one in like])
    return [part.view_as(one).to(one.dtype) for part, one in zip(parts, like, strict=True)]
