"""Uploads merged where they arise: the exact sum of those of a process, and the mean of all where their server is.

That is for methods whose server step makes of uploads nothing but their mean, and that say so by ``merges``; the step
is then given that mean, as one upload. Sums are exact (:class:`~strata.engine.params.ExactSum`), so it is the mean that
the step would have formed of the single ones, to the bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from strata.engine.errors import TrainingError
from strata.engine.method.messages import Received
from strata.engine.params import ExactSum, Limb, is_summed
from strata.engine.tree import replaced

Weighing = Literal["samples", "evenly"]
"""What uploads count by in a mean: their senders' training samples, or all alike."""


class Outline(NamedTuple):
    """Stands in an upload for its tensor of this number, by what is alike in all uploads that are merged."""

    number: int
    shape: torch.Size
    dtype: torch.dtype


@dataclass(frozen=True)
class Part:
    """Some uploads as one: what is alike in them, an :class:`Outline` in each tensor's place, and their weighted sum.

    The sum is of all their tensors, one behind the other, as :meth:`~strata.engine.params.ExactSum.limbs` gives it.
    """

    outline: object
    limbs: Sequence[Limb]


@dataclass(frozen=True)
class Share:
    """Stands for an upload that was merged; the first of each process brings the ``part``."""

    part: Part | None = None


def part_of(messages: Sequence[object], weights: Sequence[int]) -> Part | None:
    """Uploads, one at least, as one; None where they are not alike, or hold other types than float32 and shorter."""
    outline, tensors = _taken_apart(messages[0])
    models = [tensors]
    for message in messages[1:]:
        other, tensors = _taken_apart(message)
        if other != outline:
            return None
        models.append(tensors)
    if not is_summed(models[0]):
        return None
    summed = ExactSum()
    summed.add(models, weights)
    return Part(outline, summed.limbs())


def shares(messages: Sequence[object], weights: Sequence[int]) -> Sequence[object]:
    """What is sent in the place of a process's uploads.

    They are sent as they are where there is one, where they are not alike, and where a number is not finite, which
    their server will refuse by its sender's name.
    """
    part = part_of(messages, weights) if len(messages) > 1 else None
    if part is None or not np.isfinite(part.limbs[0].values.sum()):
        return messages
    return [Share(part), *[Share()] * (len(messages) - 1)]


def outline_of(message: object) -> object:
    """An upload, or what those that were merged with it are alike in; None where another brings that."""
    if not isinstance(message, Share):
        return message
    return None if message.part is None else message.part.outline


def single(ups: Sequence[Received[object]]) -> Sequence[Received[object]]:
    """The uploads that were not merged."""
    return [up for up in ups if not isinstance(up.message, Share)]


def weight_of(samples: int, weighing: Weighing | None) -> int:
    """What an upload of a client with so many training samples counts for."""
    return samples if weighing == "samples" else 1


def whole(ups: Sequence[Received[object]], weighing: Weighing | None) -> Sequence[Received[object]]:
    """The uploads as a method's step is given them: where some were merged, the mean of all, as one.

    Raises:
        TrainingError: where they are not alike in what they hold.
    """
    rest = single(ups)
    if len(rest) == len(ups):
        return ups
    merged = {up.sender: up.message.part for up in ups if isinstance(up.message, Share) and up.message.part}
    parts = {**merged, **{up.sender: part_of([up.message], [weight_of(up.samples, weighing)]) for up in rest}}
    (sender, first), summed = next(iter(merged.items())), ExactSum()
    for other, part in parts.items():
        if part is None or part.outline != first.outline:
            raise TrainingError(
                f"uploads of clients {sender} and {other} differ in what they hold: expected float32 tensors of equal "
                "shapes, because the method says by merges that nothing but their mean counts. Leave merges out."
            )
        summed.take(part.limbs)
    weight = sum(weight_of(up.samples, weighing) for up in ups)
    mean = _put_together(first.outline, summed.rounded() / max(1, weight))
    return [Received(sender, sum(up.samples for up in ups), mean, uploads=len(ups))]


def _taken_apart(message: object) -> tuple[object, list[Tensor]]:
    """An upload with an outline in each tensor's place, and the tensors, in their order."""
    tensors: list[Tensor] = []

    def outlined(tensor: Tensor) -> Outline:
        tensors.append(tensor)
        return Outline(len(tensors) - 1, tensor.shape, tensor.dtype)

    return replaced(message, Tensor, outlined), tensors


def _put_together(outline: object, vector: Tensor) -> object:
    """An upload again, of all its tensors, one behind the other in a vector."""
    start = 0

    def following(one: Outline) -> Tensor:
        nonlocal start
        part = vector[start : start + one.shape.numel()]
        start += len(part)
        return part.view(one.shape).to(one.dtype)

    return replaced(outline, Outline, following)
