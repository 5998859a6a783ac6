"""Weight sharing: cutting a subnet out of the supernet's weights, and bringing what it learned back.

Every slice follows from the two shapes alone: the first entries along each axis, and along the two spatial axes of a
convolution's kernel the central ones. So channels, heads (of a fixed size, one after the other), hidden channels and
their batch-norm statistics are prefixes; blocks beyond a subnet's depth are names that it does not have.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from strata.engine.models.base import Shape
from strata.engine.models.supernets.subnet import SubnetSpec, shapes
from strata.engine.params import Params, flatten, weighted_mean

CONTIGUOUS = torch.contiguous_format


def region(whole: Shape, part: Shape) -> tuple[slice, ...]:
    """Where a tensor of shape ``part`` lies in one of shape ``whole``.

    Raises:
        ValueError: when it does not fit.
    """
    if len(whole) != len(part) or any(small > large for small, large in zip(part, whole, strict=True)):
        raise ValueError(f"a tensor of shape {tuple(part)} is no slice of one of shape {tuple(whole)}")
    room = [large - small for small, large in zip(part, whole, strict=True)]
    starts = [0 if axis < 2 else spare // 2 for axis, spare in enumerate(room)]
    return tuple(slice(start, start + size) for start, size in zip(starts, part, strict=True))


def extract(w: Params, spec: SubnetSpec) -> Params:
    """The subnet's own copy of its slice of the shared weights ``w``.

    Raises:
        ValueError: when ``w`` is not of a supernet that contains this architecture.
    """
    return {name: _slice(w, name, shape).clone(memory_format=CONTIGUOUS) for name, shape in shapes(spec).items()}


def merge(w: Params, part: Params) -> Params:
    """The shared weights with ``part`` written to its slice. Tensors that ``part`` does not touch are those of ``w``.

    Raises:
        ValueError: when ``part`` is no slice of ``w``.
    """
    merged = dict(w)
    for name, value in part.items():
        _require(w, name)
        merged[name] = w[name].clone()
        _slice(merged, name, value.shape).copy_(value)
    return merged


def delta(w: Params, part: Params) -> Params:
    """Δ = part − W at its slice, in the shapes of ``part``.

    Raises:
        ValueError: when ``part`` is no slice of ``w``.
    """
    return {name: value - _slice(w, name, value.shape) for name, value in part.items()}


def fuse(w: Params, parts: Sequence[Params], weights: Sequence[float]) -> Params:
    """W + Σ_i p_i Δ_i ⊙ mask_i with p_i = weights_i / Σ weights, added up in the order given [PerFedRLNAS].

    A weight that few subnets hold moves only by their shares. Tensors that no part touches are those of ``w``. Where
    every part holds the whole of a tensor the sum is Σ_i p_i part_i, and is added up as such: that is FedAvg's mean, to
    the bit.

    Raises:
        ValueError: when there is nothing to fuse, the weights do not sum to something positive, or a part is no slice.
    """
    total = float(sum(weights))
    if not parts or total <= 0:
        raise ValueError(f"cannot fuse {len(parts)} subnets with weights that sum to {total}")
    whole = {name for name, value in w.items() if all(_holds(part, name, value.shape) for part in parts)}
    fused = {**w, **weighted_mean([{name: part[name] for name in w if name in whole} for part in parts], weights)}
    for part, weight in zip(parts, weights, strict=True):
        for name, change in delta(w, {name: value for name, value in part.items() if name not in whole}).items():
            if fused[name] is w[name]:
                fused[name] = w[name].clone()
            _slice(fused, name, change.shape).add_(change, alpha=weight / total)
    return fused


def slice_like(w: Mapping[str, Tensor], like: Params) -> Params:
    """Views of ``w`` at the slices where the tensors of ``like`` lie.

    Raises:
        ValueError: when ``like`` is no slice of ``w``.
    """
    return {name: _slice(w, name, value.shape) for name, value in like.items()}


def cosine(change: Params, aggregate: Params) -> float:
    """Cosine of a subnet's change, all tensors as one vector, with the aggregate at its slice; 0 where one is 0."""
    there = slice_like(aggregate, change)
    one, other = (flatten({name: tree[name] for name in change}).double() for tree in (change, there))
    norms = float(one.norm() * other.norm())
    return float(one @ other) / norms if norms else 0.0


def conflict(change: Params, aggregate: Params) -> float:
    """Share of the tensors of ``change`` that point away from the aggregate at their slice: a negative cosine."""
    there = slice_like(aggregate, change)
    negative = [bool((value.double() * there[name].double()).sum() < 0) for name, value in change.items()]
    return sum(negative) / len(negative)


def _holds(part: Params, name: str, shape: Shape) -> bool:
    return name in part and part[name].shape == shape


def _require(w: Mapping[str, Tensor], name: str) -> None:
    if name not in w:
        raise ValueError(f"{name} is not among the supernet's weights: are they of another search space?")


def _slice(w: Mapping[str, Tensor], name: str, shape: Shape) -> Tensor:
    _require(w, name)
    try:
        return w[name][region(w[name].shape, shape)]
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
