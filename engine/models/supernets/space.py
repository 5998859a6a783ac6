"""Search spaces: which decisions make up an architecture, and what may be chosen for each.

An architecture is a tuple of option indices, one per slot, in the order of ``SearchSpace.slots``: ``resolution``,
``stem.width``, for each stage i = 1.. ``stage{i}.width``, ``.depth``, ``.kernel``, ``.expansion``, and ``last.width``.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from strata.engine.errors import ConfigError
from strata.engine.seeding import generator
from strata.engine.suggest import closest

Architecture = tuple[int, ...]
"""Index of the chosen option, slot by slot: what a MultiDiscrete action holds."""

KINDS = ("width", "depth", "kernel", "expansion")
"""The four decisions of a stage."""

RESOLUTION = "resolution"
"""The slot of the side of the images, in pixels."""

HEAD_SIZE = 8
"""Channels of one attention head [NASViT]; widths of attention stages are whole numbers of heads."""


@dataclass(frozen=True)
class Slot:
    """One decision: its name, and its options in ascending order."""

    name: str
    options: tuple[int, ...]


@dataclass(frozen=True)
class Stage:
    """Consecutive blocks of one width.

    Attributes:
        width: options of the number of output channels.
        depth: options of the number of blocks; a shallower stage has the first of them.
        kernel: options of the side of the depthwise kernels, odd.
        expansion: options of hidden channels per input channel of an inverted residual.
        stride: of the first block.
        squeeze_excite: whether its inverted residuals have squeeze-and-excite.
        kind: of the blocks after the first, which is an inverted residual in either case.
    """

    width: tuple[int, ...]
    depth: tuple[int, ...]
    kernel: tuple[int, ...]
    expansion: tuple[int, ...]
    stride: int
    squeeze_excite: bool
    kind: Literal["convolution", "attention"] = "convolution"


@dataclass(frozen=True)
class Style:
    """What all blocks of a family share.

    Attributes:
        activation: of convolutions and MLPs.
        norm_momentum: share of a new batch in batch norm's running statistics.
    """

    activation: Literal["hardswish", "silu"] = "hardswish"
    norm_momentum: float = 0.1


@dataclass(frozen=True)
class SearchSpace:
    """All architectures of one family.

    Attributes:
        name: of the family, for messages.
        resolution: options of the side in pixels to which images are resized.
        stem: width options of the first convolution, 3×3 at stride 2.
        stages: what follows, in order.
        last: width options of the features.
        last_expansion: channels before the global pooling, per channel of the last stage.
        mlp_expansion: hidden channels per channel in the MLP of an attention block.
        style: of all blocks.

    Raises:
        ConfigError: for options that are empty, not ascending, not positive, or impossible for what they size.
    """

    name: str
    resolution: tuple[int, ...]
    stem: tuple[int, ...]
    stages: tuple[Stage, ...]
    last: tuple[int, ...]
    last_expansion: int = 6
    mlp_expansion: int = 1
    style: Style = Style()

    def __post_init__(self) -> None:
        for slot in self.slots:
            _require_ascending(self.name, slot)
        for number, stage in enumerate(self.stages, 1):
            _require_possible(self.name, f"stage{number}", stage)

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """The decisions, in the order of an architecture."""
        staged = [
            Slot(f"stage{number}.{kind}", getattr(stage, kind))
            for number, stage in enumerate(self.stages, 1)
            for kind in KINDS
        ]
        first = [Slot(RESOLUTION, self.resolution), Slot("stem.width", self.stem)]
        return (*first, *staged, Slot("last.width", self.last))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Options per slot: the ``nvec`` of a MultiDiscrete space; their sum is the number of logits of a policy."""
        return tuple(len(slot.options) for slot in self.slots)

    @property
    def count(self) -> int:
        """How many architectures the space has: the product of the options of its slots."""
        return math.prod(self.sizes)

    def largest(self) -> Architecture:
        """The architecture with the last option in every slot: it holds all shared weights."""
        return tuple(size - 1 for size in self.sizes)

    def smallest(self) -> Architecture:
        """The architecture with the first option in every slot."""
        return (0,) * len(self.slots)

    def random(self, seed: int) -> Architecture:
        """An architecture drawn from a seed: in each slot every option is equally likely."""
        draws = generator(seed, "architecture")
        return tuple(int(draws.integers(size)) for size in self.sizes)

    def require(self, architecture: Sequence[int]) -> Architecture:
        """Check an architecture, e.g. one that an agent chose, and give it as a tuple of Python integers.

        Raises:
            ConfigError: when it has not one index in range per slot.
        """
        if len(architecture) != len(self.slots):
            raise ConfigError(
                f"an architecture of {self.name} has {len(self.slots)} option indices, one per slot, "
                f"not {len(architecture)}."
            )
        for index, slot in zip(architecture, self.slots, strict=True):
            if int(index) != index or not 0 <= index < len(slot.options):
                raise ConfigError(
                    f"{self.name}: {slot.name} has the options {list(slot.options)}, so its index is an integer in "
                    f"0..{len(slot.options) - 1}, not {index}."
                )
        return tuple(int(index) for index in architecture)

    def named(self, text: str) -> Architecture:
        """An architecture as configurations write it: ``largest``, ``smallest``, ``random``, ``random:7`` or ``0,2,1``.

        ``random:N`` is drawn from the seed N, ``random`` from 0; numbers are option indices, one per slot.

        Raises:
            ConfigError: when it is none of these.
        """
        word, _, number = text.partition(":")
        if word == "random" and (number.isdecimal() or text == word):
            return self.random(int(number or 0))
        if text in ("largest", "smallest"):
            return self.largest() if text == "largest" else self.smallest()
        indices = [index.strip() for index in text.split(",")]
        if not all(index.isdecimal() for index in indices):
            raise ConfigError(
                f"{text!r} is no architecture of {self.name}; expected largest, smallest, random, random:N, or the "
                f"{len(self.slots)} option indices, e.g. {','.join(map(str, self.largest()))}."
            )
        return self.require([int(index) for index in indices])

    def values(self, architecture: Sequence[int]) -> dict[str, int]:
        """What an architecture has in each slot, by the slot's name: the option itself, not its index.

        Raises:
            ConfigError: when it is none of the space's.
        """
        chosen = zip(self.slots, self.require(architecture), strict=True)
        return {slot.name: slot.options[index] for slot, index in chosen}

    def with_options(self, options: Mapping[str, Sequence[int]]) -> "SearchSpace":
        """The same family with other options for the slots named, e.g. ``{"stage1.width": [16]}``.

        Raises:
            ConfigError: when there is no such slot, or its options are impossible.
        """
        chosen: dict[str, Any] = {slot.name: slot.options for slot in self.slots}
        for name, values in options.items():
            _require_slot(self, name)
            chosen[name] = _integers(self.name, name, values)
        stages = tuple(
            replace(stage, **{kind: chosen[f"stage{number}.{kind}"] for kind in KINDS})
            for number, stage in enumerate(self.stages, 1)
        )
        first = {"resolution": chosen["resolution"], "stem": chosen["stem.width"]}
        return replace(self, **first, stages=stages, last=chosen["last.width"])

    def only(self, architecture: Sequence[int]) -> "SearchSpace":
        """The space of this one architecture: one option per slot."""
        return self.with_options({name: (value,) for name, value in self.values(architecture).items()})


def _require_slot(space: SearchSpace, name: str) -> None:
    names = [slot.name for slot in space.slots]
    if name not in names:
        raise ConfigError(f"{space.name} has no slot {name}.{closest(name, names)} Its slots: {', '.join(names)}.")


def _integers(space: str, name: str, values: object) -> tuple[int, ...]:
    if isinstance(values, Sequence) and all(isinstance(value, int) for value in values):
        return tuple(values)
    raise ConfigError(f"{space}: {name}={values!r}: expected a list of integers, e.g. [16, 24].")


def _require_ascending(space: str, slot: Slot) -> None:
    options = slot.options
    if not options or options[0] < 1 or list(options) != sorted(set(options)):
        raise ConfigError(f"{space}: {slot.name}={list(options)}: expected positive integers in ascending order.")


def _require_possible(space: str, name: str, stage: Stage) -> None:
    if any(kernel % 2 == 0 for kernel in stage.kernel):
        raise ConfigError(f"{space}: {name}.kernel={list(stage.kernel)}: kernels need odd sides, to have a centre.")
    if stage.kind == "attention" and any(width % HEAD_SIZE for width in stage.width):
        raise ConfigError(
            f"{space}: {name}.width={list(stage.width)}: attention needs multiples of {HEAD_SIZE}, the size of a head."
        )
