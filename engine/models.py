"""Architectures, as hashable specifications that build them.

# B batch, K classes, F features
"""

import copy
import difflib
import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from engine.errors import ConfigError
from engine.messages import Params
from engine.options import Validated, option
from engine.seeding import torch_scope

Shape = tuple[int, ...]
"""Of one input, without the batch."""


@dataclass(frozen=True)
class ModelConfig(Validated):
    """Which architecture, and its size."""

    name: str = option(
        "mclr",
        "mclr (softmax regression), dnn (one hidden layer of 20), mlp, cnn (scalable), cnn_permfl, cnn_permfl_fmnist "
        "(PerMFL's two), or package.module:factory of your own, called with (input_shape, classes, **options)",
    )
    hidden: list[int] = option([200], "mlp: sizes of the hidden layers", ge=1)
    width: float = option(1.0, "cnn: multiplies the number of channels", gt=0)
    depth: int = option(2, "cnn: number of convolution blocks", ge=1)
    options: dict[str, Any] = option({}, "keyword arguments of your own factory")

    def validate(self, path: str) -> None:
        """Check that there is such a model, and that options are given to one that takes them."""
        if ":" in self.name:
            return
        _require_known(self.name, path)
        if self.options:
            raise ConfigError(
                f"{path}options={dict(self.options)}: {path}name={self.name} takes none; they are for a "
                "package.module:factory of your own."
            )


class Buildable(Protocol):
    """A hashable description of an architecture."""

    def build(self) -> nn.Module:
        """Make a module; its initial values come from torch's global generator, so build inside a derived scope."""

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
    input_shape: Shape
    classes: int
    options: tuple[tuple[str, Any], ...] = ()

    def build(self) -> nn.Module:
        """Make a module.

        Raises:
            ConfigError: when there is no such architecture.
            ValueError: when it does not take such inputs; what a factory of the user's own raises is up to it.
        """
        return _factory(self.name)(self.input_shape, self.classes, **dict(self.options))


@dataclass(frozen=True)
class Joint:
    """Several models trained together: ``forward`` gives a dict of their outputs, names are prefixed ``child.``."""

    children: tuple[tuple[str, Buildable], ...]

    def __post_init__(self) -> None:
        names = [name for name, _ in self.children]
        if not names or len(set(names)) < len(names) or any("." in name for name in names):
            raise ValueError(f"the children of a Joint need distinct names without a dot, not {names}")

    def build(self) -> nn.Module:
        """Make a module."""
        return _JointModule({name: child.build() for name, child in self.children})


class _JointModule(nn.ModuleDict):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {name: child(x) for name, child in self.items()}


def spec_of(config: ModelConfig, input_shape: Shape, classes: int) -> ModelSpec:
    """Turn a configuration into the specification for one data set; it is built once, to find misfits early.

    Raises:
        ConfigError: when the architecture does not exist or does not take such inputs.
    """
    options: Mapping[str, Any] = {}
    if ":" in config.name:
        options = {name: _frozen(name, value) for name, value in config.options.items()}
    elif config.name == "mlp":
        options = {"hidden": tuple(config.hidden)}
    elif config.name == "cnn":
        options = {"width": config.width, "depth": config.depth}
    spec = ModelSpec(config.name, tuple(input_shape), classes, tuple(sorted(options.items())))
    _require_fit(spec)
    return spec


def _require_fit(spec: ModelSpec) -> None:
    try:
        with torch_scope(0):
            module = spec.build()
    except ConfigError:
        raise
    except Exception as error:  # a factory of the user's own may raise anything
        fits, cause = (" mclr, dnn and mlp take any.", None) if spec.name in MODELS else ("", error)
        raise ConfigError(
            f"model.name={spec.name} does not take inputs of shape {spec.input_shape}: {error}.{fits}"
        ) from cause
    if not isinstance(module, nn.Module):
        raise ConfigError(f"model.name={spec.name}: expected a torch.nn.Module, it made a {type(module).__name__}.")


def _frozen(name: str, value: Any) -> Any:
    """Turn lists into tuples, so that a specification can be hashed."""
    if isinstance(value, list | tuple):
        return tuple(_frozen(name, item) for item in value)
    if isinstance(value, bool | int | float | str | None):
        return value
    raise ConfigError(
        f"model.options.{name}={value!r}: expected a number, text, true, false, null, or a list of those."
    )


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


Factory = Callable[..., nn.Module]


def _require_known(name: str, path: str) -> None:
    if name not in MODELS:
        near = difflib.get_close_matches(name, MODELS, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ConfigError(
            f"{path}name={name}: no such model.{hint} Found: {', '.join(MODELS)}; "
            "package.module:factory names your own."
        )


def _factory(name: str) -> Factory:
    if name in MODELS:
        return MODELS[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        _require_known(name, "model.")
    try:
        factory: Factory = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"model.name={name}: cannot be imported: {error}. Is its folder on PYTHONPATH?") from None
    return factory


def _mclr(input_shape: Shape, classes: int) -> FeatureModel:
    return FeatureModel(nn.Flatten(), nn.Linear(math.prod(input_shape), classes))


def _mlp(input_shape: Shape, classes: int, hidden: tuple[int, ...]) -> FeatureModel:
    sizes = [math.prod(input_shape), *hidden]
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


def _cnn(input_shape: Shape, classes: int, width: float, depth: int) -> FeatureModel:
    # Every block halves height and width.
    channels = [_channels(input_shape, least=2**depth), *(max(1, round(32 * width * 2**i)) for i in range(depth))]
    layers: list[nn.Module] = []
    for a, b in pairwise(channels):
        layers += [nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    features = nn.Sequential(*layers, nn.Flatten())
    return FeatureModel(features, nn.Linear(_width_after(features, input_shape), classes))


def _channels(input_shape: Shape, least: int) -> int:
    """Channels of an image; a ValueError when it is none, or smaller than ``least`` pixels either way."""
    if len(input_shape) != 3 or min(input_shape[1:]) < least:
        raise ValueError(f"it needs images (channels, height, width) of at least {least}×{least} pixels")
    return input_shape[0]


def _with_dense_layer(convolutions: nn.Sequential, input_shape: Shape, classes: int) -> FeatureModel:
    dense = nn.Linear(_width_after(convolutions, input_shape), 128)
    return FeatureModel(nn.Sequential(*convolutions, dense, nn.ReLU()), nn.Linear(128, classes))


def _width_after(module: nn.Module, input_shape: Shape) -> int:
    # On the meta device nothing is computed.
    width: int = copy.deepcopy(module).to("meta")(torch.empty(1, *input_shape, device="meta")).shape[1]
    return width


MODELS: Mapping[str, Factory] = {
    "mclr": _mclr,
    "dnn": _dnn,
    "mlp": _mlp,
    "cnn": _cnn,
    "cnn_permfl": _cnn_permfl,
    "cnn_permfl_fmnist": _cnn_permfl_fmnist,
}
