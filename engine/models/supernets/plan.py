"""From an architecture to the parts of its network, in order; each is a specification that can be built by itself."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import nn

from strata.engine.models.base import Shape
from strata.engine.models.supernets.blocks import (
    ACTIVATIONS,
    AttentionBlock,
    InvertedResidual,
    Resize,
    convolution,
    linear,
)
from strata.engine.models.supernets.space import KINDS, SearchSpace


@dataclass(frozen=True)
class Part:
    """A module yet to be made: what makes it, and with which arguments."""

    make: Callable[..., nn.Module]
    arguments: tuple[object, ...] = ()

    def build(self) -> nn.Module:
        """Make the module of this part; its initial values come from torch's global generator."""
        return self.make(*self.arguments)


def body(space: SearchSpace, values: dict[str, int], input_shape: Shape) -> Iterator[tuple[str, Part]]:
    """The parts of a subnet's ``features``, each with its name, in the order in which inputs pass through them.

    Args:
        space: says what kinds of blocks there are.
        values: the option chosen for each slot, by name.
        input_shape: channels, height, width.

    Yields:
        name and part; ``stage1.block1`` is the first part of ``stage1``.
    """
    width, style = values["stem.width"], space.style
    if values["resolution"] != input_shape[1]:
        yield "resize", Part(Resize, (values["resolution"],))
    yield "stem", Part(convolution, (input_shape[0], width, 3, style, 2))
    for number in range(1, len(space.stages) + 1):
        yield from _stage(space, values, number, width)
        width = values[f"stage{number}.width"]
    wide = space.last_expansion * width
    yield "last", Part(convolution, (width, wide, 1, style))
    yield "pool", Part(nn.AdaptiveAvgPool2d, (1,))
    yield "flatten", Part(nn.Flatten)
    yield "mix", Part(linear, (wide, values["last.width"]))
    yield "activation", Part(ACTIVATIONS[style.activation])


def _stage(space: SearchSpace, values: dict[str, int], number: int, inputs: int) -> Iterator[tuple[str, Part]]:
    stage, style = space.stages[number - 1], space.style
    width, depth, kernel, expansion = (values[f"stage{number}.{kind}"] for kind in KINDS)
    fixed = (style, stage.squeeze_excite)
    yield f"stage{number}.block1", Part(InvertedResidual, (inputs, width, kernel, expansion, *fixed, stage.stride))
    if stage.kind == "attention":
        following = Part(AttentionBlock, (width, space.mlp_expansion, style))
    else:
        following = Part(InvertedResidual, (width, width, kernel, expansion, *fixed, 1, True))
    for block in range(2, depth + 1):
        yield f"stage{number}.block{block}", following
