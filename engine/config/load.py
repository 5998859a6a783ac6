"""The configuration of a run: how files and command-line overrides become one checked object.

Layers of what is :mod:`.written`, later ones win: the schema's defaults, the method's own YAML (the differences it
needs), a user's YAML or a named setting's, ``key=value`` overrides. Every mistake is a
:class:`~strata.engine.errors.ConfigError` that names the key, what was expected and the closest valid name, before
anything is started.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from strata.engine.config.schema import RunConfig
from strata.engine.config.written import GROUPS, parse_overrides, read_yaml
from strata.engine.errors import ConfigError
from strata.engine.evaluation.config import OF_METHODS
from strata.engine.method.find import MAIN, load_method, method_module, method_names, shipped_settings
from strata.engine.options import allowed_range, check, completed, overlaid
from strata.engine.suggest import closest

Layer = tuple[dict[str, Any], str]  # keys and values, and where they were written

Settings = Mapping[str, Any]
"""Values by key, as they are given in Python: nested dicts, or keys with dots (``{"clients.count": 10}``)."""

OWN = ("algorithm", "method", "agents")  # what belongs to a method; everything else is the setting it runs in


def load_config(source: str, overrides: Sequence[str] | Settings = (), base: str | None = None) -> RunConfig:
    """The checked configuration of a method's name or a YAML file, with ``key=value`` overrides, or values by key.

    Args:
        source: what to run.
        overrides: of the command line, or of Python, whose values are taken as they are; they win over everything else.
        base: a name or file whose setting stands in for the source's own: of the source, only the method's parts
            (:data:`OWN`) enter. So several methods run in one setting.

    Raises:
        ConfigError: for anything wrong with it.
    """
    by_key = isinstance(overrides, Mapping)
    given = nested(overrides) if isinstance(overrides, Mapping) else parse_overrides(overrides)
    name, layers = _layers(source, given)
    if base is not None:
        setting = [
            ({key: layer[key] for key in layer if key not in OWN}, where) for layer, where in _layers(base, {})[1]
        ]
        own = [({key: layer[key] for key in layer if key in OWN}, where) for layer, where in layers]
        layers = [*setting, *own]
    return _merge([*layers, (given, "the settings given" if by_key else "the command line")], name)


def own_keys(source: str) -> list[str]:
    """The keys that belong to the method of a name or a YAML file: ``method.lr``; ``agents.policy`` if it has any.

    And ``evaluation.personal`` of one without personal models of its own.
    """
    config = _defaults(_layers(source, {})[0])
    kind, keys = config.method_class, _paths(config.method, "method")
    if kind.Control:
        keys += _paths(config.agents, "agents")
    return keys if kind.has_personal_model or kind.takes_families else [*keys, *OF_METHODS]


def config_from_dict(plain: Mapping[str, Any], where: str) -> RunConfig:
    """The checked configuration of a resolved one, as :func:`to_dict` made it; defaults of YAML files do not enter.

    Raises:
        ConfigError: for anything wrong with it; ``where`` says in errors where it was written.
    """
    return _merge([(dict(plain), where)], str(plain.get("algorithm", "")))


def to_dict(config: RunConfig) -> dict[str, Any]:
    """The configuration as plain nested dicts; :func:`config_from_dict` is the inverse."""
    return dataclasses.asdict(config)


def _layers(source: str, overrides: Mapping[str, Any]) -> tuple[str, list[Layer]]:
    """The method's name, and what is said about it: the YAML beside it, then the user's, without the overrides."""
    if not isinstance(source, str):
        raise ConfigError(f"{source!r}: expected the name of a method, or a YAML file, as text.")
    path = Path(source) if source.endswith((".yaml", ".yml")) else shipped_settings().get(source)
    said = (read_yaml(path), str(path)) if path else ({"algorithm": source}, "the command line")
    name = overrides.get("algorithm", said[0].get("algorithm", "permfl"))
    if not isinstance(name, str):
        raise ConfigError(f"algorithm={name!r}: expected the name of a method. Found: {', '.join(method_names())}.")
    beside = _beside(name)
    return name, [(read_yaml(beside), str(beside)), said] if beside else [said]


def _beside(name: str) -> Path | None:
    """The YAML beside a method's module; a class of a script or a notebook has none."""
    module = method_module(name)
    if module.__name__ == MAIN or not module.__file__:
        return None
    path = Path(module.__file__).with_suffix(".yaml")
    return path if path.exists() else None


def _merge(layers: Sequence[Layer], name: str) -> RunConfig:
    config = _defaults(name)
    for layer, where in layers:
        config = overlaid(config, _expand_groups(layer), where)
    config = dataclasses.replace(config, algorithm=name, method=completed(config.method, config))
    check(config)
    return config


def _defaults(name: str) -> RunConfig:
    """A method's configuration before any file or override: the defaults of the schema and of its ``Config``."""
    try:
        return RunConfig(algorithm=name, method=load_method(name).Config())
    except TypeError as error:
        raise ConfigError(f"algorithm={name}: {error}. Expected a default for every setting: option(…).") from None


def _paths(value: Any, path: str) -> list[str]:
    if not dataclasses.is_dataclass(value):
        return [path]
    named = {f.name: f"{path}.{f.name}".removeprefix(".") for f in dataclasses.fields(value)}
    return [key for name, key in named.items() for key in _paths(getattr(value, name), key)]


def _expand_groups(layer: dict[str, Any], path: str = "") -> dict[str, Any]:
    """``data=mnist`` is short for ``data.name=mnist``; likewise for the other groups that have a name."""
    expanded = {}
    for name, value in layer.items():
        key = f"{path}{name}"
        if isinstance(value, dict):
            value = _expand_groups(value, f"{key}.")
        expanded[name] = {"name": value} if key in GROUPS and not isinstance(value, dict) else value
    return expanded


def nested(settings: Settings) -> dict[str, Any]:
    """``{"a.b": 1, "a": {"c": "x"}}`` → ``{"a": {"b": 1, "c": "x"}}``; values are not read again.

    Raises:
        ConfigError: for a key that is no text, keys that contradict each other, or a value that no file could hold.
    """
    result: dict[str, Any] = {}
    for key, value in settings.items():
        if not isinstance(key, str) or not all(key.split(".")):
            raise ConfigError(f"{key!r}: expected the key of a setting as text, e.g. rounds or clients.count.")
        plain = plain_value(key, value)
        *parents, last = (f"{key}.name" if key in GROUPS and not isinstance(plain, dict) else key).split(".")
        for parent in reversed([*parents, last]):
            plain = {parent: plain}
        _lay(result, plain, "")
    return result


def _lay(result: dict[str, Any], given: Mapping[str, Any], path: str) -> None:
    """Add nested values to others; none may be there already."""
    for name, value in given.items():
        if name not in result:
            result[name] = value
        elif isinstance(result[name], dict) and isinstance(value, dict):
            _lay(result[name], value, f"{path}{name}.")
        else:
            raise ConfigError(f"{path}{name}: it is given twice, as {result[name]!r} and as {value!r}. Give it once.")


def plain_value(key: str, value: object) -> Any:
    """A value of Python as a YAML file would hold it: numpy's numbers and arrays, tuples and paths become plain.

    Raises:
        ConfigError: naming the key, for a value that no file could hold.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic | np.ndarray):
        return plain_value(key, value.tolist())
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {name: plain_value(f"{key}.{name}", item) for name, item in value.items()}
    if isinstance(value, list | tuple | range):
        return [plain_value(key, item) for item in value]
    raise ConfigError(
        f"{key}: a {type(value).__name__} is no setting. Expected a number, text, true, false, None, a list of those, "
        "or a dict with text as keys."
    )


class _Dumper(yaml.SafeDumper):
    """Writes text that OmegaConf would take for a number in quotes, such as ``1e-3``."""


_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\.?\d[\d_]*\.?[\d_]*([eE][-+]?\d+)?"), list("-+.0123456789")
)


def to_yaml(config: RunConfig, part: str = "") -> str:
    """The configuration as YAML, each key with its help text and allowed range as a comment.

    Args:
        config: what is written.
        part: a group or a key, ``clients`` or ``clients.mode``, to write nothing else; empty for all.

    Raises:
        ConfigError: when there is no such part.
    """
    lines = list(_yaml_lines(config, to_dict(config), 0, part))
    if not lines:
        known = _paths(config, "")
        groups = {key.rpartition(".")[0] for key in known} - {""}
        raise ConfigError(f"{part}: no such key or group.{closest(part, sorted({*known, *groups}))}")
    return "\n".join(lines) + "\n"


def _yaml_lines(config: Any, plain: Mapping[str, Any], depth: int, part: str) -> Iterator[str]:
    pad = "  " * depth
    name, _, rest = part.partition(".")
    for entry in dataclasses.fields(config):
        value, bounds = getattr(config, entry.name), allowed_range(entry)
        comment = entry.metadata.get("help", "") + (f" ({bounds})" if bounds else "")
        if name and entry.name != name:
            continue
        if dataclasses.is_dataclass(value):
            below = list(_yaml_lines(value, plain[entry.name], depth + 1, rest))
            if below or not rest:
                yield f"{pad}{entry.name}:  # {comment}"
                yield from below
        elif not rest:
            text = yaml.dump(plain[entry.name], Dumper=_Dumper, default_flow_style=True, width=10_000)
            text = text.removesuffix("\n...\n")
            yield f"{pad}{entry.name}: {text.strip()}  # {comment}"
