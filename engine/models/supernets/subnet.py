"""Subnets as stand-alone models, and the supernet's weights.

Parameters carry the same names in every architecture of a space: ``features.stem.conv.weight``,
``features.stage2.block1.residual.depthwise.conv.weight``, ``features.stage3.block2.attention.q.weight``, …,
``head.weight``. The body is ``features``, as in every :class:`~strata.engine.models.base.FeatureModel`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import torch
from torch import nn

from strata.engine.determinism import torch_scope
from strata.engine.models.base import FeatureModel, Shape, init_params
from strata.engine.models.supernets.blocks import linear
from strata.engine.models.supernets.plan import Part, body
from strata.engine.models.supernets.space import Architecture, SearchSpace
from strata.engine.models.supernets.spaces import space
from strata.engine.params import Params


@dataclass(frozen=True)
class SubnetSpec:
    """One architecture of a space, for one kind of image; a :class:`~strata.engine.models.base.Buildable`.

    Attributes:
        space: the search space that it belongs to.
        architecture: option indices, one per slot.
        input_shape: channels, height, width.
        classes: K.

    Raises:
        ConfigError: when the architecture is none of the space's.
    """

    space: SearchSpace
    architecture: Architecture
    input_shape: Shape
    classes: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "architecture", self.space.require(self.architecture))
        object.__setattr__(self, "input_shape", tuple(self.input_shape))

    @property
    def values(self) -> dict[str, int]:
        """The option chosen for each slot, by name."""
        return self.space.values(self.architecture)

    def build(self) -> FeatureModel:
        """Make a module of this architecture alone, as large as it says and no larger."""
        features = nn.Sequential()
        for name, part in body(self.space, self.values, self.input_shape):
            stage, _, block = name.partition(".")
            if block == "block1":
                features.add_module(stage, nn.Sequential())
            parent = features.get_submodule(stage) if block else features
            parent.add_module(block or name, part.build())
        return FeatureModel(features, head(self).build())


def head(spec: SubnetSpec) -> Part:
    """The last part of a subnet, which makes its features (B, ``last.width``) logits (B, K); not built yet."""
    return Part(linear, (spec.values["last.width"], spec.classes))


Slots = Sequence[tuple[str, tuple[int, ...]]]
"""Other options for some slots of a space, by name."""


def subnet(name: str, input_shape: Shape, classes: int, architecture: str = "largest", slots: Slots = ()) -> SubnetSpec:
    """An architecture by the names that configurations use: see :func:`.spaces.space` and ``SearchSpace.named``.

    Raises:
        ConfigError: when there is no such space, slot or architecture, or it does not take such inputs.
    """
    chosen = space(name, input_shape, dict(slots))
    return SubnetSpec(chosen, chosen.named(architecture), input_shape, classes)


def supernet_spec(space: SearchSpace, input_shape: Shape, classes: int) -> SubnetSpec:
    """The supernet of a space: its largest architecture, which holds all shared weights."""
    return SubnetSpec(space, space.largest(), input_shape, classes)


def supernet_params(space: SearchSpace, input_shape: Shape, classes: int, seed: int) -> Params:
    """Draw fresh shared weights W from a seed, batch-norm statistics included: by name, float32 on the CPU."""
    return init_params(supernet_spec(space, input_shape, classes), seed)


@lru_cache(maxsize=4096)
def shapes(spec: SubnetSpec) -> Mapping[str, Shape]:
    """Shape of every parameter and floating-point buffer, by name; nothing is allocated."""
    with torch_scope(0), torch.device("meta"):
        module = spec.build()
    named = [*module.named_parameters(), *module.named_buffers()]
    return MappingProxyType({name: tuple(value.shape) for name, value in named if value.is_floating_point()})
