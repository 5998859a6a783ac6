"""The search spaces, by name.

``mobilenetv3`` [PerFedRLNAS, released configuration]: 23 slots with 49 logits. The paper's table (stem, and width,
depth, kernel and expansion of five stages) gives 21 slots with 47 logits; the two others are the resolution {224} and
the width {1280} of the features, which the released code counts although they leave no choice.

``vit`` [NASViT, released configuration, which PerFedRLNAS uses]: 31 slots with 80 logits, in the same layout:
resolution, 9 widths, and depth, kernel and expansion of 7 stages. In stages 4 to 7 the first block is an inverted
residual, which kernel and expansion size, and the others are attention blocks. Ours: those are plain;
:mod:`strata.engine.models.supernets.blocks` says what NASViT has in addition.

``mobilenetv3_small`` and ``vit_small`` [ours]: the same blocks for images of 16 pixels and more, at their own
resolution; 15 slots with 30 logits each. For 28×28 images, the largest architecture takes 12 and 6.5 times the FLOPs of
the smallest, and half a second for an epoch of 300 images on one core. Running statistics of batch norm move by 0.3 per
batch instead of 0.1, because a client's epoch has ten batches.

Ours, in all four: a shortcut in every block of a stage but the first, and nowhere else; residual branches that do not
start at zero, and He's initial values behind the pooling.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from strata.engine.errors import ConfigError
from strata.engine.models.base import Shape
from strata.engine.models.supernets.space import SearchSpace, Stage, Style
from strata.engine.suggest import closest

LEAST_PIXELS = 16
"""Batch norm needs more than one pixel after the last stride."""

MOBILENETV3 = SearchSpace(
    name="mobilenetv3",
    resolution=(224,),
    stem=(16,),
    stages=(
        Stage((16, 24), (1, 2), (3, 5), (1,), stride=2, squeeze_excite=True),
        Stage((24, 40), (1, 2), (3, 5), (3, 4, 5), stride=2, squeeze_excite=False),
        Stage((40, 80), (2, 3, 4), (3, 5), (3, 4, 5), stride=2, squeeze_excite=True),
        Stage((48, 112), (2, 3, 4), (3, 5), (3, 4, 5), stride=1, squeeze_excite=True),
        Stage((96, 160), (2, 3, 4), (3, 5), (3, 4, 5), stride=2, squeeze_excite=True),
    ),
    last=(1280,),
)

VIT = SearchSpace(
    name="vit",
    resolution=(192, 224, 256, 288),
    stem=(16, 24),
    stages=(
        Stage((16, 24), (1, 2), (3, 5), (1,), stride=1, squeeze_excite=False),
        Stage((24, 32), (3, 4, 5), (3, 5), (4, 5, 6), stride=2, squeeze_excite=False),
        Stage((32, 40), (3, 4, 5, 6), (3,), (4, 5, 6), stride=2, squeeze_excite=True),
        Stage((64, 72), (3, 4, 5, 6), (3,), (4, 5, 6), stride=2, squeeze_excite=False, kind="attention"),
        Stage((112, 120, 128), tuple(range(3, 10)), (3,), (4, 5, 6), stride=2, squeeze_excite=True, kind="attention"),
        Stage((160, 168, 176, 184), tuple(range(3, 9)), (3,), (6,), stride=1, squeeze_excite=True, kind="attention"),
        Stage((208, 216, 224), (3, 4, 5, 6), (3,), (6,), stride=2, squeeze_excite=True, kind="attention"),
    ),
    last=(1792, 1984),
    style=Style("silu"),
)

MOBILENETV3_SMALL = SearchSpace(
    name="mobilenetv3_small",
    resolution=(28,),
    stem=(16,),
    stages=(
        Stage((8, 16), (1, 2), (3, 5), (1,), stride=1, squeeze_excite=True),
        Stage((16, 24), (1, 2, 3), (3, 5), (2, 3, 4), stride=2, squeeze_excite=False),
        Stage((24, 48), (1, 2, 3), (3, 5), (2, 3, 4), stride=2, squeeze_excite=True),
    ),
    last=(128,),
    last_expansion=3,
    style=Style("hardswish", norm_momentum=0.3),
)

VIT_SMALL = SearchSpace(
    name="vit_small",
    resolution=(28,),
    stem=(16,),
    stages=(
        Stage((8, 16), (1, 2), (3, 5), (1,), stride=1, squeeze_excite=False),
        Stage((16, 24, 32), (2, 3, 4), (3, 5), (2, 3), stride=2, squeeze_excite=False, kind="attention"),
        Stage((32, 40, 48), (2, 3, 4), (3, 5), (2, 3), stride=2, squeeze_excite=True, kind="attention"),
    ),
    last=(128,),
    last_expansion=3,
    mlp_expansion=2,
    style=Style("silu", norm_momentum=0.3),
)

FULL: Mapping[str, SearchSpace] = {space.name: space for space in (MOBILENETV3, VIT)}
SMALL: Mapping[str, SearchSpace] = {space.name: space for space in (MOBILENETV3_SMALL, VIT_SMALL)}
NAMES = (*FULL, *SMALL)


def space(name: str, input_shape: Shape, options: Mapping[str, Sequence[int]] | None = None) -> SearchSpace:
    """A search space for one kind of image.

    Args:
        name: one of :data:`NAMES`.
        input_shape: channels, height, width; a small space takes its resolution from it.
        options: other options for the slots named, see :meth:`SearchSpace.with_options`.

    Raises:
        ConfigError: when there is no such space or slot, or the inputs are not square images of a sufficient size.
    """
    if name not in NAMES:
        raise ConfigError(f"no such search space: {name}.{closest(name, NAMES)} Found: {', '.join(NAMES)}.")
    if len(input_shape) != 3 or input_shape[1] != input_shape[2] or input_shape[1] < LEAST_PIXELS:
        raise ConfigError(
            f"{name} takes square images (channels, side, side) of at least {LEAST_PIXELS} pixels, not inputs of shape "
            f"{tuple(input_shape)}."
        )
    chosen = FULL[name] if name in FULL else replace(SMALL[name], resolution=(input_shape[1],))
    return chosen.with_options(options or {})
