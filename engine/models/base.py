"""What every architecture is, however it is described: something that builds a module.

# B batch, K classes, F features
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from strata.engine.determinism import torch_scope
from strata.engine.params import Params

Shape = tuple[int, ...]
"""Of one input, without the batch."""

Factory = Callable[..., nn.Module]


class FeatureModel(nn.Module):
    """A model in two parts: ``features`` (B, ...) → (B, F), and ``head`` (B, F) → logits (B, K)."""

    def __init__(self, features: nn.Module, head: nn.Module) -> None:
        """Join the two parts."""
        super().__init__()
        self.features = features
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K)."""
        logits: Tensor = self.head(self.features(x))
        return logits


class Buildable(Protocol):
    """A hashable description of an architecture."""

    def build(self) -> nn.Module:
        """Make a module; its initial values come from torch's global generator, so build inside a derived scope."""

    def __hash__(self) -> int:
        """Equal specifications share one module."""


def init_params(spec: Buildable, seed: int) -> Params:
    """Draw fresh parameters and floating-point buffers (batch-norm statistics) from a seed: float32 on the CPU."""
    with torch_scope(seed):
        module = spec.build()
    named = [*module.named_parameters(), *module.named_buffers()]
    return {
        name: value.detach().to("cpu", torch.float32, copy=True, memory_format=torch.contiguous_format)
        for name, value in named
        if value.is_floating_point()
    }


def parameter_count(spec: Buildable) -> int:
    """Count the parameters, buffers aside."""
    with torch_scope(0):
        return sum(parameter.numel() for parameter in spec.build().parameters())


def size_mib(spec: Buildable) -> float:
    """Size of the parameters in MiB, at four bytes each."""
    return parameter_count(spec) * 4 / 2**20
