"""Declaring configuration: a dataclass field that knows its help text and its allowed range.

A component declares its configuration as a frozen dataclass of :func:`option` fields; :func:`overlaid` gives it what
files and command lines say, each value checked against the field's type by pydantic, and :func:`check` verifies the
ranges. Each names the key, the value and what was expected of the first that is impossible.
"""

import dataclasses
import json
import math
import operator
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, TypeVar, cast, get_args, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from strata.engine.errors import ConfigError
from strata.engine.suggest import closest

T = TypeVar("T")

BOUNDS = {"gt": (">", operator.gt), "ge": ("≥", operator.ge), "lt": ("<", operator.lt), "le": ("≤", operator.le)}
DIGITS = 18
"""Of a whole number in a file, at most, so that it fits into eight bytes; with more it is read as text."""

FILE_BITS = 128
"""Of a whole number that can be looked at further; those of files have fewer, and text of very long ones fails."""

SMALLEST, LARGEST = 1e-38, 1e38
"""Magnitudes of settings that are no whole numbers: those of float32."""

MOST = 10**12
"""What whole numbers are at most where nothing else is declared: nothing is counted that far, and float64 is exact."""

EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "keys and values",
}
"""How people call what pydantic found missing, by the type of its error."""


def option(
    default: T,
    help: str,
    *,
    gt: float | None = None,
    ge: float | None = None,
    lt: float | None = None,
    le: float | None = None,
    of_run: str = "",
) -> T:
    """A dataclass field with a help text and bounds (``gt`` >, ``ge`` ≥, ``lt`` <, ``le`` ≤; None leaves it open).

    ``of_run`` names a setting of the run, such as rounds, whose value a null stands for; see :func:`completed`.
    A default that is a dict, a list or a dataclass instance is copied for each instance.
    """
    bounds = {"gt": gt, "ge": ge, "lt": lt, "le": le}
    held = {name: bound for name, bound in bounds.items() if bound is not None}
    metadata = {"help": help, "bounds": held, "of_run": of_run}
    if isinstance(default, dict | list):
        empty: Any = type(default)
        copied = default
        return cast(T, dataclasses.field(default_factory=lambda: empty(copied), metadata=metadata))
    if dataclasses.is_dataclass(default):
        return dataclasses.field(default_factory=lambda: default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def completed(config: T, run: object) -> T:
    """A configuration in which settings that are null and stand for one of the run's have the value of that.

    So a run that is prolonged keeps what it began with: its settings are written down as they are after this.
    """
    named = {field.name: field.metadata.get("of_run", "") for field in dataclasses.fields(cast(Any, config))}
    missing = {name: other for name, other in named.items() if other and getattr(config, name) is None}
    values = {name: getattr(run, other) for name, other in missing.items()}
    return cast(T, dataclasses.replace(cast(Any, config), **values)) if values else config


def allowed_range(field: "dataclasses.Field[Any]") -> str:
    """The bounds of a field as people write them, e.g. ``> 0 and ≤ 1``; empty where there are none."""
    bounds = field.metadata.get("bounds", {})
    return " and ".join(f"{BOUNDS[name][0]} {bound:g}" for name, bound in bounds.items())


def overlaid(config: T, said: Mapping[str, Any], where: str, path: str = "") -> T:
    """A configuration with what was said about some of its keys, and about keys of the dataclasses in it.

    Args:
        config: a dataclass; it is not changed.
        said: plain values by key, nested where the configuration is.
        where: it was said; for errors.
        path: prefixes the keys in errors.

    Raises:
        ConfigError: for a key that does not exist, with the closest that does; for a value of another type.
    """
    fields = {field.name: field for field in dataclasses.fields(cast(Any, config))}
    hints, changes = get_type_hints(type(config), include_extras=True), {}
    for name, value in said.items():
        key = f"{path}{name}"
        if name not in fields:
            level = f"in {path.rstrip('.')}" if path else "at the top"
            hint = closest(str(name), list(fields))
            colon = _colon(name, value)
            raise ConfigError(f"{key}: no such key, in {where}.{hint} Keys {level}: {', '.join(fields)}.{colon}")
        try:
            changes[name] = _read(value, getattr(config, name), hints[name], key, where)
        except ValidationError as error:
            first = error.errors()[0]
            colon = _colon([key, *first["loc"]][-1], first["input"])
            raise ConfigError(f"{_mismatch(error, key, allowed_range(fields[name]))}, in {where}.{colon}") from None
    return cast(T, dataclasses.replace(cast(Any, config), **changes))


def _read(value: Any, held: Any, kind: Any, key: str, where: str) -> Any:
    """Check a plain value against a field's type, and give it as that; keys of its own are laid over a dataclass."""
    if dataclasses.is_dataclass(held):
        if isinstance(value, Mapping):
            return overlaid(held, value, where, f"{key}.")
        keys = ", ".join(field.name for field in dataclasses.fields(held))
        empty = f" Nothing stands below {key}: write keys there, or leave it out." if value is None else ""
        hint = _colon(key.rpartition(".")[2], value) or empty
        raise ConfigError(f"{key}={value!r}: expected keys of its own ({keys}), in {where}.{hint}")
    entry = get_args(kind)[-1] if get_args(kind) else None
    if isinstance(entry, type) and dataclasses.is_dataclass(entry) and isinstance(value, Mapping):
        return {name: _read(part, entry(), entry, f"{key}.{name}", where) for name, part in value.items()}
    if isinstance(value, int) and value.bit_length() > FILE_BITS:
        raise ConfigError(
            f"{key}={_shown(value)} is out of range: expected one that fits into eight bytes, in {where}."
        )
    if value == "???" or "${" in str(value):
        raise ConfigError(f"{key}={value!r}: expected a plain value; ??? and ${{…}} mean nothing here, in {where}.")
    if kind is str and isinstance(value, float):
        raise ConfigError(f"{key}={value!r}: expected text, in {where}. Quote it to have it as it is written.")
    # As JSON, of which even a strict reading takes a list for a tuple, and text for a path.
    return _checker(kind).validate_json(json.dumps(value, default=str))


def _colon(name: object, value: object) -> str:
    """A hint, where a key without a value, or a value in place of keys, is a key and a value as people write them."""
    written = name if value is None else value
    parts = re.fullmatch(r"([^\s:]+):(\S+)", written) if isinstance(written, str) else None
    return f" YAML needs a blank after the colon: {parts[1]}: {parts[2]}." if parts else ""


@cache
def _checker(kind: Any) -> TypeAdapter[Any]:
    # Strict: true is no number, and neither is "3". But YAML takes a name such as 2024 for a number.
    return TypeAdapter(kind, config=ConfigDict(strict=kind not in (str, list[str]), coerce_numbers_to_str=True))


def _mismatch(error: ValidationError, key: str, bounds: str) -> str:
    """Key, value and what was expected of the first value that is of another type."""
    first = error.errors()[0]
    choices = first.get("ctx", {}).get("expected", "").replace(" or ", ", ").replace("'", "")
    expected = f"one of {choices}" if choices else EXPECTED.get(first["type"], first["msg"])
    allowed = f" {bounds}" if bounds and "number" in expected else ""
    if "number" in expected and str(first["input"]).isdecimal() and len(str(first["input"])) > DIGITS:
        allowed += f" of at most {DIGITS} digits"
    return f"{'.'.join([key, *map(str, first['loc'])])}={first['input']!r}: expected {expected}{allowed}"


def check(config: Any, path: str = "") -> None:
    """Verify the bounds of every field of a dataclass, and of the dataclasses in it.

    After the bounds, a ``validate(path)`` method is called where the dataclass declares one: for what a single bound
    cannot express.

    Raises:
        ConfigError: naming the key, the value and the allowed range.
    """
    for field in dataclasses.fields(config):
        value, named = getattr(config, field.name), f"{path}{field.name}"
        if dataclasses.is_dataclass(value):
            check(value, f"{named}.")
            continue
        bounds = field.metadata.get("bounds", {})
        for key, item in _numbers(value, named):
            if isinstance(item, int) and abs(item) > bounds.get("le", MOST):
                most = "" if "le" in bounds else f", no more than {MOST:g}"
                expected = allowed_range(field) or "a whole number"
                raise ConfigError(f"{key}={_shown(item)} is out of range: expected {expected}{most}.")
            if not math.isfinite(item) or not all(BOUNDS[name][1](item, bound) for name, bound in bounds.items()):
                raise ConfigError(f"{key}={item:g} is out of range: expected {allowed_range(field) or 'a number'}.")
            if item and isinstance(item, float) and not SMALLEST <= abs(item) <= LARGEST:
                zero = "0, or " if _takes_zero(bounds) else ""
                raise ConfigError(
                    f"{key}={item:g} is out of range: expected {zero}a magnitude from {SMALLEST:g} to {LARGEST:g}: "
                    "models and clocks could not tell it from 0 or from infinity."
                )
    if isinstance(config, Validated):
        config.validate(path)


def _numbers(value: object, key: str) -> Iterator[tuple[str, int | float]]:
    """The numbers that a setting holds, each with its key: itself, those of its list, or the fractions by name."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield key, value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _numbers(item, key)
    elif isinstance(value, Mapping):  # whole numbers by name belong to others: they may be seeds
        yield from ((f"{key}.{name}", item) for name, item in value.items() if isinstance(item, float))


def _shown(item: int) -> str:
    """A whole number, or, where that is long, about how many digits it has."""
    digits = int(item.bit_length() * math.log10(2)) + 1
    return str(item) if digits <= 20 else f"a number of {digits} digits"


def _takes_zero(bounds: Mapping[str, float]) -> bool:
    return all(BOUNDS[name][1](0, bound) for name, bound in bounds.items())


class Validated(ABC):
    """Base of configurations with checks that concern several fields at once."""

    @abstractmethod
    def validate(self, path: str) -> None:
        """Raise a ``ConfigError`` where fields do not fit together; ``path`` prefixes the keys."""
