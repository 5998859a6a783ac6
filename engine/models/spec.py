"""Architectures, as hashable specifications that build them.

# B batch, K classes, F features
"""

import importlib
import inspect
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from torch import Tensor, nn

from strata.engine.determinism import torch_scope
from strata.engine.errors import ConfigError
from strata.engine.models.base import Buildable, Factory
from strata.engine.models.base import FeatureModel as FeatureModel
from strata.engine.models.base import Shape as Shape
from strata.engine.models.config import require_known
from strata.engine.models.supernets import spaces
from strata.engine.models.supernets.spaces import NAMES
from strata.engine.models.supernets.subnet import SubnetSpec, subnet
from strata.engine.models.zoo import MODELS
from strata.engine.params import Params


@dataclass(frozen=True)
class ModelSpec:
    """One architecture for one kind of input.

    Attributes:
        name: of a model or a search space that ships with Strata, or ``package.module:factory``.
        input_shape: of one input, without the batch.
        classes: K.
        options: sorted pairs of what else the factory takes; lists as tuples.
    """

    name: str
    input_shape: Shape
    classes: int
    options: tuple[tuple[str, Any], ...] = ()

    def build(self) -> nn.Module:
        """Make a module of this architecture.

        Raises:
            ConfigError: when there is no such architecture.
            ValueError: when it does not take such inputs; what a factory of the user's own raises is up to it.
        """
        return _factory(self.name)(self.input_shape, self.classes, **dict(self.options))


@dataclass(frozen=True)
class Family:
    """Several architectures in one: of n members, client i has number ``i mod n``."""

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
        """Make a module that holds the children's modules by name; its ``forward`` gives a dict of their outputs."""
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
        f"model.name={spec.name} exposes no features; expected a strata.engine.models.base.FeatureModel whose "
        "head has a linear layer."
    )


def _factory(name: str) -> Factory:
    if name in MODELS:
        return MODELS[name]
    if name in spaces.NAMES:
        from strata.engine.models.supernets.subnet import subnet  # which needs this module

        return lambda *inputs, **options: subnet(name, *inputs, **options).build()
    module, colon, attribute = name.partition(":")
    if not colon:
        require_known(name, "model.")
    try:
        factory: Factory = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"model.name={name}: cannot be imported: {error}. Is its folder on PYTHONPATH?") from None
    return factory


def subnet_of(model: Buildable, method: str) -> SubnetSpec:
    """The architecture that a configured model is, with the space it belongs to.

    Raises:
        ConfigError: when the model is of no search space, for a ``method`` that needs one.
    """
    if isinstance(model, ModelSpec) and model.name in NAMES:
        return subnet(model.name, model.input_shape, model.classes, **dict(model.options))
    if isinstance(model, SubnetSpec):
        return model
    name = model.name if isinstance(model, ModelSpec) else type(model).__name__
    raise ConfigError(
        f"model.name={name}: {method} needs a model that is cut from a search space. Choose one of "
        f"{', '.join(NAMES)}; model.options narrows its slots."
    )
