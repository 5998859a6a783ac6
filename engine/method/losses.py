"""Losses that a request for training can name.

# B batch, K classes
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Batch:
    """One minibatch: inputs ``x`` (B, ...), classes ``y`` (B,), and the request's ``constants``."""

    x: Tensor
    y: Tensor
    constants: Mapping[str, Tensor] = field(default_factory=dict)


Loss = Callable[[nn.Module, Batch], Tensor]
"""The loss of a batch, a scalar. A module-level function or a frozen dataclass: FLOPs are cached by it.

It leaves the module as it is; parts that are to stand still are named by ``Train.frozen``.
"""


def cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    """Mean cross-entropy of the model's logits."""
    return F.cross_entropy(model(batch.x), batch.y)


@dataclass(frozen=True)
class SmoothedCrossEntropy:
    """Mean cross-entropy against labels that give ``smoothing`` of their mass to all classes alike."""

    smoothing: float

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss of the model's logits."""
        return F.cross_entropy(model(batch.x), batch.y, label_smoothing=self.smoothing)
