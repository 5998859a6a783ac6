"""The two parts of a model that methods treat apart: its body, and its head."""

from strata.engine.errors import ConfigError
from strata.engine.models.base import Buildable, head_names, init_params
from strata.engine.params import Params


def body_names(model: Buildable, method: str) -> frozenset[str]:
    """Names of everything but the head, batch norm's statistics included; ``method`` is named in errors.

    Raises:
        ConfigError: for a model that has no head of its own, or nothing else.
    """
    names = frozenset(init_params(model, 0))
    body = names.difference(head_names(model))
    if not body or body == names:
        raise ConfigError(
            f"{method} trains the body and the head apart, and this model has not both; expected an "
            "strata.engine.models.base.FeatureModel(features, head) whose features have parameters, e.g. model=cnn."
        )
    return body


def part(params: Params, names: frozenset[str]) -> Params:
    """The parameters that have one of these names."""
    return {name: value for name, value in params.items() if name in names}
