"""What every architecture is, however it is described: something that builds a module.

# B batch, K classes, F features
"""

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor, nn

from strata.engine.determinism import torch_scope
from strata.engine.models.weighing import weighed
from strata.engine.params import Params

Shape = tuple[int, ...]
"""The shape of one input, without the batch."""

Factory = Callable[..., nn.Module]


class FeatureModel(nn.Module):
    """A model in two parts: ``features`` (B, ...) → (B, F), and ``head`` (B, F) → logits (B, K)."""

    def __init__(self, features: nn.Module, head: nn.Module) -> None:
        """``features`` maps inputs (B, ...) to features (B, F), and ``head`` these to logits (B, K)."""
        super().__init__()
        self.features = features
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """The logits (B, K) of inputs (B, ...)."""
        logits: Tensor = self.head(self.features(x))
        return logits

    @property
    def head_names(self) -> tuple[str, ...]:
        """Names, in the whole model, of the parameters and floating-point buffers of the head."""
        return tuple(f"head.{name}" for name, _ in _floating(self.head))


def _floating(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, value in (*module.named_parameters(), *module.named_buffers()):
        if value.is_floating_point():
            yield name, value


class Buildable(Protocol):
    """A hashable description of an architecture."""

    def build(self) -> nn.Module:
        """Make a module; its initial values come from torch's global generator, so build inside a derived scope."""

    def __hash__(self) -> int:
        """Equal specifications hash alike, because a trainer keeps one module for all that are equal."""


def built(spec: Buildable, seed: int = 0) -> nn.Module:
    """A module of an architecture, drawn from a seed.

    Raises:
        ResourceError: before it is made, where this machine has not the memory to train it.
    """
    with (
        torch_scope(seed),
        weighed(f"a model, {spec!r:.160}", "Choose a smaller one, or a smaller factor on its width."),
    ):
        return spec.build()


def init_params(spec: Buildable, seed: int) -> Params:
    """Draw fresh parameters and floating-point buffers (batch-norm statistics) from a seed: float32 on the CPU."""
    return {
        name: value.detach().to("cpu", torch.float32, copy=True, memory_format=torch.contiguous_format)
        for name, value in _floating(built(spec, seed))
    }


def head_names(spec: Buildable) -> tuple[str, ...]:
    """Names of the parameters of an architecture's head, buffers included; none where it is no FeatureModel."""
    module = built(spec)
    return module.head_names if isinstance(module, FeatureModel) else ()


def features_of(module: nn.Module) -> nn.Module:
    """The part (B, ...) → (B, F) of a model.

    Raises:
        TypeError: when it is no :class:`FeatureModel`.
    """
    if isinstance(module, FeatureModel):
        return module.features
    raise TypeError(
        f"expected a FeatureModel(features, head), not a {type(module).__name__}, which exposes no features"
    )


def parameter_count(spec: Buildable) -> int:
    """How many values the parameters of an architecture hold, buffers aside."""
    return sum(parameter.numel() for parameter in built(spec).parameters())


def size_mib(spec: Buildable) -> float:
    """Size of an architecture's parameters in MiB, at four bytes a value; buffers do not count."""
    return parameter_count(spec) * 4 / 2**20
