"""Losses that a request for training can name.

# B batch, K classes or labels, D columns of numbers
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from strata.engine.errors import LossError


@dataclass(frozen=True)
class Batch:
    """One minibatch: inputs ``x`` (B, ...), targets ``y``, and the request's ``constants``.

    Targets are classes or tokens (B,) int64, numbers (B, D) float32, or 0 and 1 by label (B, K) uint8.
    """

    x: Tensor
    y: Tensor
    constants: Mapping[str, Tensor] = field(default_factory=dict)

    def mean(self, values_B: Tensor) -> Tensor:
        """The mean of one value per sample: what a trainer makes of a loss, and a loss of its parts where it must."""
        return values_B.mean()


Loss = Callable[[nn.Module, Batch], Tensor]
"""The loss of each sample of a batch, ``(B,)``; the trainer descends their mean.

A module-level function or a frozen dataclass: FLOPs are cached by it. A sample's loss rests on that sample alone, but
for what :meth:`Batch.mean` gives: batches may be filled up with rows that do not count. It leaves the module as it is;
parts that are to stand still are named by ``Train.frozen``.
"""


def cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    """Cross-entropy of the model's logits, (B,)."""
    return F.cross_entropy(model(batch.x), batch.y, reduction="none")


def target_loss(outputs: Tensor, y: Tensor) -> Tensor:
    """The loss of each sample's outputs, (B,), which the type of the targets tells.

    Of classes and tokens (B,) int64 the cross-entropy of logits (B, K); of numbers (B, D) float32 the squared error,
    its mean over the columns; of labels (B, K) uint8 the binary cross-entropy of logits, its mean over the labels.
    """
    if y.dtype.is_floating_point:
        return (outputs - y).square().mean(1)
    if y.dtype == torch.uint8:
        # BCE with logits, in operations that torch.func batches as one: softplus(z) - z y.
        return (F.softplus(outputs) - outputs * y).mean(1)
    return F.cross_entropy(outputs, y, reduction="none")


def task_loss(model: nn.Module, batch: Batch) -> Tensor:
    """The loss of the task, (B,): :func:`target_loss` of the model's outputs. What requests are about by default."""
    return target_loss(model(batch.x), batch.y)


@dataclass(frozen=True)
class SmoothedCrossEntropy:
    """Cross-entropy against labels that give ``smoothing`` of their mass to all classes alike."""

    smoothing: float

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss of each sample, (B,)."""
        return F.cross_entropy(model(batch.x), batch.y, label_smoothing=self.smoothing, reduction="none")


DISTILS = "its models learn from each other's softmax over classes"
"""Why a method refuses tasks without classes, where its loss has :func:`kl_divergence`."""


def kl_divergence(teacher_BK: Tensor, student_BK: Tensor) -> Tensor:
    """KL(softmax(teacher) ‖ softmax(student)) of each sample's logits, (B,); the teacher gets no gradient."""
    log_p, log_q = F.log_softmax(teacher_BK.detach(), 1), F.log_softmax(student_BK, 1)
    # F.kl_div's own operations, which torch.func cannot batch as one.
    return (log_p.exp() * (log_p - log_q)).sum(1)


def sample_losses(loss: Loss, model: nn.Module, batch: Batch) -> Tensor:
    """The loss of each sample of a batch, (B,).

    Raises:
        LossError: when the loss gives something else.
    """
    values_B = loss(model, batch)
    if values_B.shape != batch.y.shape[:1]:
        name = getattr(loss, "__name__", type(loss).__name__)
        raise LossError(
            f"{name}: expected a loss of each sample, of shape ({len(batch.y)},), got shape {tuple(values_B.shape)}. "
            'Leave the mean to the trainer, e.g. with reduction="none".'
        )
    return values_B


def mean_loss(loss: Loss, model: nn.Module, batch: Batch) -> Tensor:
    """The mean loss of a batch, a scalar; see :func:`sample_losses`."""
    return batch.mean(sample_losses(loss, model, batch))
