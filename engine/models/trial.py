"""A model of somebody's own, tried on two inputs of zeros before a run begins: what was expected, and what arrived.

# K classes
"""

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from strata.engine.determinism import torch_scope
from strata.engine.errors import ConfigError
from strata.engine.models.spec import ModelSpec


def require_logits(spec: ModelSpec, module: nn.Module, tokens: bool) -> None:
    """Check that a module is float32 throughout, has something to train, and turns two inputs into logits (2, K).

    Args:
        spec: what the module was built from.
        module: as it was built.
        tokens: whether inputs are token ids.

    Raises:
        ConfigError: naming the model, what was expected and what arrived.
    """
    named = f"model.name={spec.name}"
    for name, value in module.named_parameters():
        if isinstance(value, UninitializedParameter):
            raise ConfigError(
                f"{named}: {name} has no shape yet, as in lazy layers: expected layers of known sizes. The model "
                f"is called with the shape of an input, {spec.input_shape}, and the number of classes."
            )
        if value.dtype != torch.float32:
            raise ConfigError(f"{named}: {name} is {value.dtype}: expected float32. Leave out half() or double().")
    if not any(value.requires_grad for value in module.parameters()):
        raise ConfigError(f"{named}: it has no parameter to train: expected one at least that requires a gradient.")
    expected = f"logits of shape (B, {spec.classes}), float32, for B inputs of shape {spec.input_shape}"
    x = torch.zeros(2, *spec.input_shape, dtype=torch.int64 if tokens else torch.float32)
    try:
        with torch_scope(0), torch.no_grad():
            logits = module.train()(x)
    except Exception as error:  # of the user's own code, which may raise anything
        raise ConfigError(f"{named}: expected {expected}; it raised {type(error).__name__}: {error}.") from error
    if not isinstance(logits, Tensor):
        raise ConfigError(f"{named}: expected {expected}; it gave a {type(logits).__name__}.")
    if logits.shape != (2, spec.classes) or logits.dtype != torch.float32:
        found = f"{tuple(logits.shape)}, {str(logits.dtype).removeprefix('torch.')}"
        raise ConfigError(f"{named}: expected {expected}; for two inputs it gave {found}.")
