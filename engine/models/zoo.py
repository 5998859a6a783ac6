"""The architectures that ship with Strata: factories called with (input shape, classes, their own options).

Where a factory takes ``most``, no hidden layer is wider than that: the same chain of layers with small hidden sizes.

# B batch, K classes, F features
"""

import math
from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from typing import TypeVar

import torch
from torch import nn

from strata.engine.models.base import Factory, FeatureModel, Shape
from strata.engine.models.sequences import TextFeatures, require_attention, series_convolutions, text_width


def _mclr(input_shape: Shape, classes: int) -> FeatureModel:
    return FeatureModel(nn.Flatten(), nn.Linear(math.prod(input_shape), classes))


def _mlp(input_shape: Shape, classes: int, hidden: tuple[int, ...], most: int | None = None) -> FeatureModel:
    sizes = [math.prod(input_shape), *(_capped(size, most) for size in hidden)]
    layers: list[nn.Module] = [nn.Flatten()]
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return FeatureModel(nn.Sequential(*layers), nn.Linear(sizes[-1], classes))


def _dnn(input_shape: Shape, classes: int) -> FeatureModel:
    # PerMFL's network for the synthetic data: 60–20–10.
    return _mlp(input_shape, classes, (20,))


def _cnn_permfl(input_shape: Shape, classes: int) -> FeatureModel:
    # PerMFL's network for MNIST. No source states a padding; none is our choice.
    convolutions = nn.Sequential(
        nn.Conv2d(_channels(input_shape, least=5), 16, 2),
        nn.ReLU(),
        nn.MaxPool2d(2, stride=1),
        nn.Conv2d(16, 32, 2),
        nn.ReLU(),
        nn.MaxPool2d(2, stride=1),
        nn.Flatten(),
    )
    return _with_dense_layer(convolutions, input_shape, classes)


def _cnn_permfl_fmnist(input_shape: Shape, classes: int) -> FeatureModel:
    # PerMFL's network for Fashion-MNIST; padding as above.
    convolutions = nn.Sequential(
        nn.Conv2d(_channels(input_shape, least=10), 32, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
    )
    return _with_dense_layer(convolutions, input_shape, classes)


def _cnn(input_shape: Shape, classes: int, width: float, depth: int, most: int | None = None) -> FeatureModel:
    # Every block halves height and width.
    channels = [_channels(input_shape, least=2**depth), *_doubling(width, depth, most)]
    layers: list[nn.Module] = []
    for a, b in pairwise(channels):
        layers += [nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    features = nn.Sequential(*layers, nn.Flatten())
    return FeatureModel(features, nn.Linear(_width_after(features, input_shape), classes))


FIVE = ((32, 2000), (16, 2000), (32, 1000), (32, 800), (32, 500))
"""Channels of the second convolution and size of the first dense layer of the five CNNs of pFedLoRA's comparisons."""


def _cnn_five(
    input_shape: Shape, classes: int, member: int, width: float, features: int, most: int | None = None
) -> FeatureModel:
    # No source states a padding; without any the sizes are the published 10.00, 6.92, 5.04, 4.04 and 2.56 MiB.
    first, second = _capped(16, most), _capped(FIVE[member - 1][0], most)
    convolutions = nn.Sequential(
        nn.Conv2d(_channels(input_shape, least=16), first, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(first, second, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
    )
    return _with_two_dense_layers(convolutions, input_shape, classes, member, width, features, most)


def _cnn_series(
    input_shape: Shape, classes: int, width: float, depth: int, features: int, most: int | None = None
) -> FeatureModel:
    # The one-dimensional counterpart of _cnn, with a dense layer behind, so that the features are of one width.
    channels = [_series_channels(input_shape, least=2**depth), *_doubling(width, depth, most)]
    convolutions = series_convolutions(channels, len(input_shape) == 1, padding=2)
    dense = nn.Linear(_width_after(convolutions, input_shape), _capped(features, most))
    return FeatureModel(nn.Sequential(*convolutions, dense, nn.ReLU()), nn.Linear(dense.out_features, classes))


def _cnn_series_five(
    input_shape: Shape, classes: int, member: int, width: float, features: int, most: int | None = None
) -> FeatureModel:
    # _cnn_five with convolutions over time.
    inner = [_capped(16, most), _capped(FIVE[member - 1][0], most)]
    channels = [_series_channels(input_shape, least=16), *inner]
    convolutions = series_convolutions(channels, len(input_shape) == 1, padding=0)
    return _with_two_dense_layers(convolutions, input_shape, classes, member, width, features, most)


def _with_two_dense_layers(
    convolutions: nn.Sequential,
    input_shape: Shape,
    classes: int,
    member: int,
    width: float,
    features: int,
    most: int | None,
) -> FeatureModel:
    """A member of a family of five: convolutions, two dense layers, the second of ``features`` units, and the head."""
    hidden = _capped(max(1, round(FIVE[member - 1][1] * width)), most)
    first = nn.Linear(_width_after(convolutions, input_shape), hidden)
    second = nn.Linear(hidden, _capped(features, most))
    layers = nn.Sequential(*convolutions, first, nn.ReLU(), second, nn.ReLU())
    return FeatureModel(layers, nn.Linear(second.out_features, classes))


def _transformer(
    input_shape: Shape,
    classes: int,
    vocabulary: int,
    width: float,
    depth: int,
    features: int,
    most: int | None = None,
) -> FeatureModel:
    if not vocabulary:
        raise ValueError("it needs texts as token ids; data.text=COLUMN makes them of a table's column of free text")
    inner = text_width(_capped(64 * width, most))
    require_attention(input_shape[0], inner)
    layers = TextFeatures(vocabulary, input_shape[0], inner, depth, _capped(features, most))
    return FeatureModel(layers, nn.Linear(layers.dense.out_features, classes))


FIVE_TEXT = ((3, 1.5), (2, 1.5), (2, 1.0), (1, 1.0), (1, 0.5))
"""Encoder blocks, and width relative to the one of ``transformer``, of the five transformers."""


def _transformer_five(
    input_shape: Shape,
    classes: int,
    member: int,
    vocabulary: int,
    width: float,
    features: int,
    most: int | None = None,
) -> FeatureModel:
    depth, wider = FIVE_TEXT[member - 1]
    return _transformer(input_shape, classes, vocabulary, width * wider, depth, features, most)


Size = TypeVar("Size", int, float)


def _capped(size: Size, most: int | None) -> Size:
    """A hidden size, at most ``most`` where that is given."""
    return size if most is None else min(size, most)


def _doubling(width: float, depth: int, most: int | None) -> list[int]:
    """Channels of ``depth`` blocks, 32·width in the first and twice as many in each further one."""
    return [_capped(max(1, round(32 * width * 2**i)), most) for i in range(depth)]


def _series_channels(input_shape: Shape, least: int) -> int:
    """Channels of a series, 1 where it is flat; a ValueError when it is none, or shorter than ``least`` steps."""
    if len(input_shape) not in (1, 2) or input_shape[-1] < least:
        raise ValueError(f"it needs series (channels, length), or (length,), of at least {least} steps")
    return input_shape[0] if len(input_shape) == 2 else 1


def _channels(input_shape: Shape, least: int) -> int:
    """Channels of an image; a ValueError when it is none, or smaller than ``least`` pixels either way."""
    if len(input_shape) != 3 or min(input_shape[1:]) < least:
        raise ValueError(f"it needs images (channels, height, width) of at least {least}×{least} pixels")
    return input_shape[0]


def _with_dense_layer(convolutions: nn.Sequential, input_shape: Shape, classes: int) -> FeatureModel:
    dense = nn.Linear(_width_after(convolutions, input_shape), 128)
    return FeatureModel(nn.Sequential(*convolutions, dense, nn.ReLU()), nn.Linear(128, classes))


def _width_after(module: nn.Module, input_shape: Shape) -> int:
    # Not on the meta device: its kernels in Python import torch's compiler.
    with torch.no_grad():
        width: int = module(torch.zeros(1, *input_shape)).shape[1]
    return width


def _five(name: str, factory: Factory) -> Mapping[str, Factory]:
    """The five members of a family as factories of their own, by ``NAME_1`` to ``NAME_5``."""
    return {f"{name}_{member}": partial(factory, member=member) for member in range(1, 6)}


_CNNS, _SERIES = _five("cnn_five", _cnn_five), _five("cnn_series_five", _cnn_series_five)
_TRANSFORMERS = _five("transformer_five", _transformer_five)

MODELS: Mapping[str, Factory] = {
    "mclr": _mclr,
    "dnn": _dnn,
    "mlp": _mlp,
    "cnn": _cnn,
    "cnn_permfl": _cnn_permfl,
    "cnn_permfl_fmnist": _cnn_permfl_fmnist,
    **_CNNS,
    "cnn_series": _cnn_series,
    **_SERIES,
    "transformer": _transformer,
    **_TRANSFORMERS,
}

FAMILIES: Mapping[str, tuple[str, ...]] = {
    "cnn_five": tuple(_CNNS),
    "cnn_series_five": tuple(_SERIES),
    "transformer_five": tuple(_TRANSFORMERS),
}
"""Several architectures under one name, for methods whose clients may differ in theirs."""

SETTINGS: Mapping[str, tuple[str, ...]] = {
    "mlp": ("hidden",),
    "cnn": ("width", "depth"),
    **dict.fromkeys(_CNNS, ("width", "features")),
    "cnn_series": ("width", "depth", "features"),
    **dict.fromkeys(_SERIES, ("width", "features")),
    "transformer": ("width", "depth", "features", "vocabulary"),
    **dict.fromkeys(_TRANSFORMERS, ("width", "features", "vocabulary")),
}
"""What a factory is given beside shape and classes: keys of the ``model`` group, and the data's ``vocabulary``."""

TEXT_MODELS = frozenset(name for name, given in SETTINGS.items() if "vocabulary" in given)
"""The architectures whose inputs are token ids; the others' are numbers."""
