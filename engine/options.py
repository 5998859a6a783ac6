"""Declaring configuration: a dataclass field that knows its help text and its allowed range.

A component declares its configuration as a frozen dataclass of :func:`option` fields; :func:`check` then verifies every
value and names the key, the value and the allowed range of the first that is impossible.
"""

import dataclasses
import math
from abc import ABC, abstractmethod
from typing import Any, TypeVar, cast

from strata.engine.errors import ConfigError

T = TypeVar("T")


def option(
    default: T,
    help: str,
    *,
    gt: float | None = None,
    ge: float | None = None,
    lt: float | None = None,
    le: float | None = None,
) -> T:
    """A dataclass field with a help text and bounds (``gt`` >, ``ge`` ≥, ``lt`` <, ``le`` ≤; None leaves it open).

    A default that is a dict, a list or a dataclass instance is copied for each instance.
    """
    metadata = {"help": help, "bounds": {"gt": gt, "ge": ge, "lt": lt, "le": le}}
    if isinstance(default, dict | list):
        empty: Any = type(default)
        copied = default
        return cast(T, dataclasses.field(default_factory=lambda: empty(copied), metadata=metadata))
    if dataclasses.is_dataclass(default):
        return dataclasses.field(default_factory=lambda: default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def allowed_range(field: "dataclasses.Field[Any]") -> str:
    """The bounds of a field as people write them, e.g. ``> 0 and ≤ 1``; empty where there are none."""
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    bounds = field.metadata.get("bounds", {})
    return " and ".join(f"{signs[name]} {bounds[name]:g}" for name in signs if bounds.get(name) is not None)


def check(config: Any, path: str = "") -> None:
    """Verify the bounds of every field of a dataclass, and of the dataclasses in it.

    After the bounds, a ``validate(path)`` method is called where the dataclass declares one: for what a single bound
    cannot express.

    Raises:
        ConfigError: naming the key, the value and the allowed range.
    """
    for field in dataclasses.fields(config):
        value, key = getattr(config, field.name), f"{path}{field.name}"
        if dataclasses.is_dataclass(value):
            check(value, f"{key}.")
            continue
        values = value if isinstance(value, list | tuple) else [value]
        for item in values:
            if isinstance(item, bool) or not isinstance(item, int | float):
                continue
            bounds = field.metadata.get("bounds", {})
            wrong = (
                not math.isfinite(item)
                or (bounds.get("gt") is not None and not item > bounds["gt"])
                or (bounds.get("ge") is not None and not item >= bounds["ge"])
                or (bounds.get("lt") is not None and not item < bounds["lt"])
                or (bounds.get("le") is not None and not item <= bounds["le"])
            )
            if wrong:
                raise ConfigError(f"{key}={item:g} is out of range: expected {allowed_range(field) or 'a number'}.")
    if isinstance(config, Validated):
        config.validate(path)


class Validated(ABC):
    """Base of configurations with checks that concern several fields at once."""

    @abstractmethod
    def validate(self, path: str) -> None:
        """Raise a ``ConfigError`` where fields do not fit together; ``path`` prefixes the keys."""
