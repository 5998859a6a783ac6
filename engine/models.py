"""Architectures, as hashable specifications that build them.

# B batch, K classes, F features
"""

import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from engine.errors import ConfigError
from engine.messages import Params
from engine.options import option
from engine.seeding import torch_scope


@dataclass(frozen=True)
class ModelConfig:
    """Which architecture, and its size."""

    name: str = option(
        "mclr",
        "mclr (softmax regression), dnn (one hidden layer of 20), mlp, cnn (scalable), cnn_permfl and cnn_permfl_fmnist "
        "(PerMFL's two), or package.module:factory of your own, called with (input_shape, classes, **options)",
    )
    hidden: list[int] = option([200], "mlp: sizes of the hidden layers", ge=1)
    width: float = option(1.0, "cnn: multiplies the number of channels", gt=0)
    depth: int = option(2, "cnn: number of convolution blocks", ge=1)
    options: dict[str, Any] = option({}, "keyword arguments of your own factory")


class Buildable(Protocol):
    """A hashable description of an architecture."""

    def build(self) -> nn.Module:
        """A new module; its initial values come from torch's global generator, so build inside a derived scope."""

    def __hash__(self) -> int:
        """Equal specifications share one module."""


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


@dataclass(frozen=True)
class ModelSpec:
    """One architecture for one kind of input.

    Attributes:
        name: a name of this module's, or ``package.module:factory``.
        input_shape: of one input, without the batch.
        classes: K.
        options: sorted pairs of what else the factory takes; lists as tuples.
    """

    name: str
    input_shape: tuple[int, ...]
    classes: int
    options: tuple[tuple[str, Any], ...] = ()

    def build(self) -> nn.Module:
        """A new module.

        Raises:
            ConfigError: when the architecture does not exist or does not take such inputs.
        """
        return _factory(self.name)(self.input_shape, self.classes, **dict(self.options))


@dataclass(frozen=True)
class Joint:
    """Several models trained together: ``forward`` gives a dict of their outputs, names are prefixed ``child.``."""

    children: tuple[tuple[str, Buildable], ...]

    def build(self) -> nn.Module:
        """A new module."""
        return _JointModule({name: child.build() for name, child in self.children})


class _JointModule(nn.ModuleDict):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {name: child(x) for name, child in self.items()}


def spec_of(config: ModelConfig, input_shape: tuple[int, ...], classes: int) -> ModelSpec:
    """The specification that a configuration means for one data set; it is built once to find misfits early.

    Raises:
        ConfigError: when the architecture does not exist or does not take such inputs.
    """
    options: Mapping[str, Any] = {}
    if ":" in config.name:
        options = config.options
    elif config.name == "mlp":
        options = {"hidden": tuple(config.hidden)}
    elif config.name == "cnn":
        options = {"width": config.width, "depth": config.depth}
    spec = ModelSpec(config.name, tuple(input_shape), classes, tuple(sorted(options.items())))
    try:
        parameter_count(spec)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"model.name={config.name} does not take inputs of shape {tuple(input_shape)}: {error}. mclr and mlp take any."
        ) from None
    return spec


def init_params(spec: Buildable, seed: int) -> Params:
    """Fresh parameters and floating-point buffers (batch-norm statistics), float32 on the CPU; a function of the seed."""
    with torch_scope(seed):
        module = spec.build()
    named = [*module.named_parameters(), *module.named_buffers()]
    return {name: value.detach().clone().contiguous() for name, value in named if value.is_floating_point()}


def parameter_count(spec: Buildable) -> int:
    """Number of trainable parameters."""
    with torch_scope(0):
        return sum(parameter.numel() for parameter in spec.build().parameters())


def size_mib(spec: Buildable) -> float:
    """Size of the parameters in MiB, at four bytes each."""
    return parameter_count(spec) * 4 / 2**20


Factory = Callable[..., nn.Module]


def _factory(name: str) -> Factory:
    if name in MODELS:
        return MODELS[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        raise ConfigError(
            f"model.name={name}: no such model. Found: {', '.join(MODELS)}; package.module:factory names your own."
        )
    try:
        factory: Factory = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"model.name={name}: cannot be imported: {error}. Is its folder on PYTHONPATH?") from None
    return factory


def _mclr(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    return FeatureModel(nn.Flatten(), nn.Linear(math.prod(input_shape), classes))


def _mlp(input_shape: tuple[int, ...], classes: int, hidden: tuple[int, ...]) -> nn.Module:
    sizes = [math.prod(input_shape), *hidden]
    layers: list[nn.Module] = [nn.Flatten()]
    for a, b in zip(sizes, sizes[1:], strict=False):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return FeatureModel(nn.Sequential(*layers), nn.Linear(sizes[-1], classes))


def _dnn(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    # PerMFL's network for the synthetic data: 60–20–10.
    return _mlp(input_shape, classes, (20,))


def _cnn_permfl(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    convolutions = nn.Sequential(
        nn.Conv2d(_channels(input_shape), 16, 2),
        nn.ReLU(),
        nn.MaxPool2d(2, stride=1),
        nn.Conv2d(16, 32, 2),
        nn.ReLU(),
        nn.MaxPool2d(2, stride=1),
        nn.Flatten(),
    )
    return _with_dense_layer(convolutions, input_shape, classes)


def _cnn_permfl_fmnist(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    convolutions = nn.Sequential(
        nn.Conv2d(_channels(input_shape), 32, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
    )
    return _with_dense_layer(convolutions, input_shape, classes)


def _cnn(input_shape: tuple[int, ...], classes: int, width: float, depth: int) -> nn.Module:
    channels = [_channels(input_shape), *(max(1, round(32 * width * 2**i)) for i in range(depth))]
    layers: list[nn.Module] = []
    for a, b in zip(channels, channels[1:], strict=False):
        layers += [nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    features = nn.Sequential(*layers, nn.Flatten())
    return FeatureModel(features, nn.Linear(_width_after(features, input_shape), classes))


def _channels(input_shape: tuple[int, ...]) -> int:
    if len(input_shape) != 3:
        raise ValueError("a convolutional network needs images (channels, height, width)")
    return input_shape[0]


def _with_dense_layer(convolutions: nn.Sequential, input_shape: tuple[int, ...], classes: int) -> nn.Module:
    dense = nn.Linear(_width_after(convolutions, input_shape), 128)
    return FeatureModel(nn.Sequential(*convolutions, dense, nn.ReLU()), nn.Linear(128, classes))


def _width_after(module: nn.Module, input_shape: tuple[int, ...]) -> int:
    with torch.no_grad():
        width: int = module(torch.zeros(1, *input_shape)).shape[1]
    return width


MODELS: Mapping[str, Factory] = {
    "mclr": _mclr,
    "dnn": _dnn,
    "mlp": _mlp,
    "cnn": _cnn,
    "cnn_permfl": _cnn_permfl,
    "cnn_permfl_fmnist": _cnn_permfl_fmnist,
}
