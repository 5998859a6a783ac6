"""From the ``model`` part of a configuration to architectures for one data set."""

from collections.abc import Mapping

from torch import nn

from strata.engine.data.dataset import TokenShape
from strata.engine.errors import ConfigError, StrataError
from strata.engine.models.base import FeatureModel as FeatureModel
from strata.engine.models.base import Shape as Shape
from strata.engine.models.base import built
from strata.engine.models.config import ModelConfig
from strata.engine.models.spec import Family, ModelSpec
from strata.engine.models.supernets import spaces
from strata.engine.models.trial import require_logits
from strata.engine.models.zoo import MODELS, SETTINGS, TEXT_MODELS


def spec_of(config: ModelConfig, input_shape: Shape, classes: int) -> ModelSpec | Family:
    """Turn a configuration into the specification for one data set; it is built once, to find misfits early.

    Args:
        config: the ``model`` part of the configuration.
        input_shape: of one input; a :class:`~strata.engine.data.dataset.TokenShape` brings the number of token ids.
        classes: K.

    Raises:
        ConfigError: when an architecture does not exist or does not take such inputs.
    """
    specs = tuple(_spec_of(member, input_shape, classes) for member in config.members())
    for spec in specs:
        _require_fit(spec, isinstance(input_shape, TokenShape) and bool(input_shape.vocabulary))
    return Family(specs) if config.is_family else specs[0]


def _spec_of(config: ModelConfig, input_shape: Shape, classes: int) -> ModelSpec:
    vocabulary = input_shape.vocabulary if isinstance(input_shape, TokenShape) else 0
    options: Mapping[str, object] = {}
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
        "are no tokens (an .npz or a column of lists), data.range=none or LOW..HIGH reads them as numbers."
    )


FITS = " mclr, dnn and mlp take any. Where channels lie last in an .npz, data.layout=last reads them."


def _require_fit(spec: ModelSpec, tokens: bool) -> None:
    try:
        module = built(spec)
    except StrataError:
        raise
    except Exception as error:  # a factory of the user's own may raise anything
        fits, cause = (FITS, None) if spec.name in MODELS else ("", error)
        raise ConfigError(
            f"model.name={spec.name} does not take inputs of shape {spec.input_shape}: {error}.{fits}"
        ) from cause
    if not isinstance(module, nn.Module):
        raise ConfigError(f"model.name={spec.name}: expected a torch.nn.Module, it made a {type(module).__name__}.")
    if ":" in spec.name:
        require_logits(spec, module, tokens)


def _frozen(name: str, value: object) -> object:
    """Turn lists into tuples, so that a specification can be hashed."""
    if isinstance(value, list | tuple):
        return tuple(_frozen(name, item) for item in value)
    if isinstance(value, bool | int | float | str | None):
        return value
    raise ConfigError(
        f"model.options.{name}={value!r}: expected a number, text, true, false, null, or a list of those."
    )
