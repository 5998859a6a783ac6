"""Architectures, as hashable specifications that build them.

# B batch, K classes, F features
"""

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from engine.architectures import MODELS, SETTINGS, TEXT_MODELS, Factory
from engine.architectures import FeatureModel as FeatureModel
from engine.architectures import Shape as Shape
from engine.data.dataset import TokenShape
from engine.determinism import torch_scope
from engine.errors import ConfigError
from engine.messages import Params
from engine.model_config import ModelConfig, require_known
from engine.supernets import spaces


class Buildable(Protocol):
    """A hashable description of an architecture."""

    def build(self) -> nn.Module:
        """Make a module; its initial values come from torch's global generator, so build inside a derived scope."""

    def __hash__(self) -> int:
        """Equal specifications share one module."""


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
class Family:
    """Architectures that differ by client."""

    members: tuple[ModelSpec, ...]

    def of(self, client: int) -> ModelSpec:
        """The architecture of one client: number ``client mod n`` of the members."""
        return self.members[client % len(self.members)]

    def build(self) -> nn.Module:
        """Refuse, because it would have to be one of them.

        Raises:
            ConfigError: always.
        """
        names = ", ".join(dict.fromkeys(member.name for member in self.members))
        raise ConfigError(
            f"this method gives every client the same architecture, and the model is a family ({names}). Name one of "
            "them as model.name, without model.family."
        )


def family_of(model: Buildable) -> Family:
    """The family that a method was given; a single architecture is a family of one.

    Raises:
        TypeError: for anything else.
    """
    if isinstance(model, Family):
        return model
    if isinstance(model, ModelSpec):
        return Family((model,))
    raise TypeError(f"expected a ModelSpec or a Family, not a {type(model).__name__}")


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


def split_params(params: Params) -> dict[str, Params]:
    """Parameters of a :class:`Joint`, by child and without the prefix; in the order in which the children occur.

    Raises:
        ValueError: when a name has no prefix.
    """
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in params.items():
        child, dot, rest = name.partition(".")
        if not dot:
            raise ValueError(f"{name} has no prefix; expected the parameters of a Joint, named child.parameter")
        parts.setdefault(child, {})[rest] = value
    return dict(parts)


def join_params(**parts: Params) -> Params:
    """Parameters of a :class:`Joint` from those of its children: the inverse of :func:`split_params`."""
    return {f"{child}.{name}": value for child, params in parts.items() for name, value in params.items()}


def spec_of(config: ModelConfig, input_shape: Shape, classes: int) -> ModelSpec | Family:
    """Turn a configuration into the specification for one data set; it is built once, to find misfits early.

    Args:
        config: the ``model`` part of the configuration.
        input_shape: of one input; a :class:`~engine.data.dataset.TokenShape` brings the number of token ids.
        classes: K.

    Raises:
        ConfigError: when an architecture does not exist or does not take such inputs.
    """
    specs = tuple(_spec_of(member, input_shape, classes) for member in config.members())
    for spec in specs:
        _require_fit(spec)
    return Family(specs) if config.is_family else specs[0]


def _spec_of(config: ModelConfig, input_shape: Shape, classes: int) -> ModelSpec:
    vocabulary = input_shape.vocabulary if isinstance(input_shape, TokenShape) else 0
    options: Mapping[str, Any] = {}
    if ":" in config.name:
        options = {name: _frozen(name, value) for name, value in config.options.items()}
    elif vocabulary and config.name not in TEXT_MODELS:
        raise ConfigError(_no_text_model(config.name, input_shape, vocabulary))
    elif config.name in MODELS:
        settings = {**vars(config), "hidden": tuple(config.hidden), "vocabulary": vocabulary}
        options = {name: settings[name] for name in SETTINGS.get(config.name, ())}
    elif config.name in spaces.NAMES:
        slots = tuple((slot, _frozen(slot, values)) for slot, values in sorted(config.slots.items()))
        options = {"architecture": config.architecture, "slots": slots}
    return ModelSpec(config.name, tuple(input_shape), classes, tuple(sorted(options.items())))


def _no_text_model(name: str, input_shape: Shape, vocabulary: int) -> str:
    return (
        f"model.name={name} does not take text: inputs are rows of {input_shape[0]} token ids below {vocabulary}. "
        "Choose transformer, transformer_five, or a package.module:factory of your own. If these whole numbers "
        "are no tokens (an .npz or a column of lists), save them as float32."
    )


FITS = " mclr, dnn and mlp take any. Where channels lie last in an .npz, data.layout=last reads them."


def _require_fit(spec: ModelSpec) -> None:
    try:
        with torch_scope(0):
            module = spec.build()
    except ConfigError:
        raise
    except Exception as error:  # a factory of the user's own may raise anything
        fits, cause = (FITS, None) if spec.name in MODELS else ("", error)
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


def scaled(spec: Buildable, factor: float) -> ModelSpec:
    """The same architecture with ``factor`` times the width: channels of a cnn, hidden units of an mlp.

    A factory of the user's own takes part by having an option ``width``.

    Raises:
        ConfigError: for an architecture without a width.
    """
    options = dict(spec.options) if isinstance(spec, ModelSpec) else {}
    if "hidden" in options:
        options["hidden"] = tuple(max(1, round(units * factor)) for units in options["hidden"])
    elif "width" in options:
        options["width"] *= factor
    else:
        name = spec.name if isinstance(spec, ModelSpec) else type(spec).__name__
        raise ConfigError(
            f"model.name={name} comes in one size only, and this method needs several. Choose cnn, mlp, "
            "cnn_series or transformer, or a package.module:factory of your own with an option `width`."
        )
    assert isinstance(spec, ModelSpec)
    return replace(spec, options=tuple(sorted(options.items())))


def reduced(spec: ModelSpec, most: int) -> ModelSpec:
    """The same chain of layers, with no hidden layer wider than ``most``: channels, units, features.

    A factory of the user's own takes part by having an argument ``most``, None by default.

    Raises:
        ConfigError: for an architecture that cannot be reduced.
    """
    if "most" not in inspect.signature(_factory(spec.name)).parameters:
        raise ConfigError(
            f"model.name={spec.name} has no hidden sizes to reduce. Choose mlp, cnn, cnn_series, transformer or one of "
            "the families of five, or a package.module:factory of your own with an argument `most`."
        )
    return replace(spec, options=tuple(sorted({**dict(spec.options), "most": most}.items())))


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


@lru_cache(maxsize=256)
def feature_width(spec: ModelSpec) -> int:
    """F of an architecture that exposes features: the inputs of the first linear layer of its head.

    Raises:
        ConfigError: when it is no :class:`FeatureModel`, or there is no linear layer in its head.
    """
    with torch_scope(0):
        module = spec.build()
    layers = module.head.modules() if isinstance(module, FeatureModel) else ()
    for layer in layers:
        if isinstance(layer, nn.Linear):
            return layer.in_features
    raise ConfigError(
        f"model.name={spec.name} exposes no features; expected an engine.models.FeatureModel(features, head) whose "
        "head has a linear layer."
    )


def size_mib(spec: Buildable) -> float:
    """Size of the parameters in MiB, at four bytes each."""
    return parameter_count(spec) * 4 / 2**20


def _factory(name: str) -> Factory:
    if name in MODELS:
        return MODELS[name]
    if name in spaces.NAMES:
        from engine.supernets.subnet import subnet  # which needs this module

        return lambda *inputs, **options: subnet(name, *inputs, **options).build()
    module, colon, attribute = name.partition(":")
    if not colon:
        require_known(name, "model.")
    try:
        factory: Factory = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"model.name={name}: cannot be imported: {error}. Is its folder on PYTHONPATH?") from None
    return factory
