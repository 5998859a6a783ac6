"""The configuration of a run: how files and command-line overrides become one checked object.

The only module that imports OmegaConf. Layers, later ones win: the schema's defaults, the method's own YAML (the
differences it needs), a user's YAML, ``key=value`` overrides. Every mistake is a
:class:`~strata.engine.errors.ConfigError` that names the key, what was expected and the closest valid name, before
anything is started.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from strata.engine.config.schema import RunConfig
from strata.engine.errors import ConfigError
from strata.engine.method.find import load_method, method_module, method_names
from strata.engine.options import allowed_range, check
from strata.engine.suggest import closest

Layer = tuple[dict[str, Any], str]  # keys and values, and where they were written

OWN = ("algorithm", "method", "agents")  # what belongs to a method; everything else is the setting it runs in


def load_config(source: str, overrides: Sequence[str] = (), base: str | None = None) -> RunConfig:
    """The checked configuration of a method's name or a YAML file, with ``key=value`` overrides.

    Args:
        source: what to run.
        overrides: of the command line; they win over everything else.
        base: a name or file whose setting stands in for the source's own: of the source, only the method's parts
            (:data:`OWN`) enter. So several methods run in one setting.

    Raises:
        ConfigError: for anything wrong with it.
    """
    given = parse_overrides(overrides)
    name, layers = _layers(source, given)
    if base is not None:
        setting = [
            ({key: layer[key] for key in layer if key not in OWN}, where) for layer, where in _layers(base, {})[1]
        ]
        own = [({key: layer[key] for key in layer if key in OWN}, where) for layer, where in layers]
        layers = [*setting, *own]
    return _merge([*layers, (given, "the command line")], name)


def own_keys(source: str) -> list[str]:
    """The keys that belong to the method of a name or a YAML file: ``method.lr``; ``agents.policy`` if it has any."""
    name, _ = _layers(source, {})
    schema = _schema(name)
    nodes = {part: schema._get_node(part) for part in OWN}
    if load_method(name).Control is None:
        del nodes["agents"]
    return [key for part, node in nodes.items() if isinstance(node, DictConfig) for key in _paths(node, f"{part}.")]


def config_from_dict(plain: Mapping[str, Any], where: str) -> RunConfig:
    """The checked configuration of a resolved one, as :func:`to_dict` made it; defaults of YAML files do not enter."""
    return _merge([(dict(plain), where)], str(plain.get("algorithm", "")))


def to_dict(config: RunConfig) -> dict[str, Any]:
    """The configuration as plain nested dicts."""
    return dataclasses.asdict(config)


def _layers(source: str, overrides: Mapping[str, Any]) -> tuple[str, list[Layer]]:
    """The method's name, and what is said about it: the YAML beside it, then the user's, without the overrides."""
    file = source.endswith((".yaml", ".yml"))
    said = (read_yaml(Path(source)), source) if file else ({"algorithm": source}, "the command line")
    name = overrides.get("algorithm", said[0].get("algorithm", "permfl"))
    if not isinstance(name, str):
        raise ConfigError(f"algorithm={name!r}: expected the name of a method. Found: {', '.join(method_names())}.")
    beside = Path(str(method_module(name).__file__)).with_suffix(".yaml")
    return name, [(read_yaml(beside), str(beside)), said] if beside.exists() else [said]


def _merge(layers: Sequence[Layer], name: str) -> RunConfig:
    merged = _schema(name)
    for layer, where in layers:
        layer = _expand_groups(layer)
        _check_keys(layer, merged, where)
        for key, value in _leaves(layer, merged):
            _assign(merged, key, value, where)
    try:
        config: RunConfig = OmegaConf.to_object(merged)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        raise ConfigError(f"{str(error).splitlines()[0]}. Expected plain values, without ??? and ${{…}}.") from None
    config = dataclasses.replace(config, algorithm=name)
    check(config)
    return config


def _schema(name: str) -> DictConfig:
    """Every key of a method's configuration, with its type and default."""
    schema: DictConfig = OmegaConf.structured(RunConfig)
    _unlock(schema)
    schema.method = OmegaConf.structured(load_method(name).Config)
    _unlock(schema.method)
    return schema


def _paths(node: DictConfig, path: str) -> Iterator[str]:
    for key in map(str, node):
        child = node._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none() and not _is_free(child):
            yield from _paths(child, f"{path}{key}.")
        else:
            yield f"{path}{key}"


def _unlock(node: DictConfig) -> None:
    # OmegaConf locks what comes from frozen dataclasses, which is right for the result and in the way of the layers.
    OmegaConf.set_readonly(node, False)
    for key in node:
        child = node._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none():
            _unlock(child)


GROUPS = {"data": "name", "partition": "name", "model": "name", "delays": "name", "teams.formation": "name"}


def _expand_groups(layer: dict[str, Any]) -> dict[str, Any]:
    """``data=mnist`` is short for ``data.name=mnist``; likewise for the other groups that have a name."""
    expanded = {}
    for key, value in layer.items():
        if key == "teams" and isinstance(value, dict) and not isinstance(value.get("formation", {}), dict):
            value = {**value, "formation": {"name": value["formation"]}}
        expanded[key] = {GROUPS[key]: value} if key in GROUPS and not isinstance(value, dict) else value
    return expanded


def _check_keys(layer: Mapping[str, Any], schema: DictConfig, where: str, path: str = "") -> None:
    for key, value in layer.items():
        if key not in schema:
            raise ConfigError(
                f"{path}{key}: no such key, in {where}.{closest(str(key), [str(k) for k in schema])} "
                f"Keys {'in ' + path.rstrip('.') if path else 'at the top'}: {', '.join(map(str, schema))}."
            )
        node = schema._get_node(key)
        if isinstance(value, Mapping) and isinstance(node, DictConfig) and OmegaConf.is_config(node):
            if _is_free(node):
                continue
            _check_keys(value, node, where, f"{path}{key}.")


def _is_free(node: DictConfig) -> bool:
    # A plain dict in the schema (device mix, options of a user's model) takes any key.
    return not dataclasses.is_dataclass(OmegaConf.get_type(node))


def _leaves(layer: Mapping[str, Any], schema: DictConfig, path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in layer.items():
        node = schema._get_node(key)
        if isinstance(value, Mapping) and isinstance(node, DictConfig) and not _is_free(node):
            yield from _leaves(value, node, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def _assign(merged: DictConfig, key: str, value: Any, where: str) -> None:
    node = OmegaConf.select(merged, key)
    if isinstance(node, DictConfig) and not _is_free(node):
        raise ConfigError(f"{key}={value!r}: expected keys of its own ({', '.join(map(str, node))}), in {where}.")
    if isinstance(value, str) and (value == "???" or "${" in value):
        raise ConfigError(f"{key}={value!r}: expected a plain value; ??? and ${{…}} mean nothing here, in {where}.")
    try:
        OmegaConf.update(merged, key, _typed(node, value), merge=False)
    except (OmegaConfBaseException, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{key}={value!r}: {_expected(merged, key, reason)}, in {where}.") from None


def _typed(node: Any, value: Any) -> Any:
    """The value, with the entries of a dict of settings (resources by device class) as settings of their type."""
    kind = node._metadata.element_type if isinstance(node, DictConfig) else None
    if not dataclasses.is_dataclass(kind) or not isinstance(value, Mapping):
        return value
    entries = {}
    for name, part in value.items():
        entries[name] = OmegaConf.structured(kind)
        _unlock(entries[name])
        entries[name].merge_with(part)
    return entries


def _expected(merged: DictConfig, key: str, reason: str) -> str:
    *parents, last = key.split(".")
    owner: Any = RunConfig
    for parent in parents:
        owner = _field_types(owner, merged).get(parent, owner)
    kind = _field_types(owner, merged).get(last)
    choices = getattr(kind, "__args__", None)
    if choices and all(isinstance(choice, str) for choice in choices):
        return f"expected one of {', '.join(choices)}"
    bounds = next((allowed_range(f) for f in dataclasses.fields(owner) if f.name == last), "")
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    if kind in names:
        return f"expected {names[kind]}{' ' + bounds if bounds else ''}"
    return reason


def _field_types(owner: Any, merged: DictConfig) -> dict[str, Any]:
    types = {f.name: f.type for f in dataclasses.fields(owner)}
    if owner is RunConfig:
        types["method"] = OmegaConf.get_type(merged.method)
    return types


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """``["a.b=1", "a.c=x"]`` → ``{"a": {"b": 1, "c": "x"}}``, values read as YAML."""
    result: dict[str, Any] = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key or not all(key.split(".")):
            raise ConfigError(f"{text!r}: expected key=value, e.g. rounds=50 or clients.num_gpus=0.1.")
        try:
            parsed = yaml.safe_load(value) if value else ""
        except yaml.YAMLError:
            raise ConfigError(f"{key}={value}: the value cannot be read; quote it, e.g. '{key}=\"…\"'.") from None
        *parents, last = key.split(".")
        _place(result, parents, last, parsed, key)
    return result


def _place(result: dict[str, Any], parents: Sequence[str], last: str, value: Any, key: str) -> None:
    inner = result
    for depth, parent in enumerate(parents):
        held = inner.setdefault(parent, {})
        if not isinstance(held, dict):
            name = GROUPS.get(".".join(parents[: depth + 1]))
            if name is None:
                raise ConfigError(f"{key}: {'.'.join(parents[: depth + 1])} was given a value of its own before.")
            held = inner[parent] = {name: held}
        inner = held
    if isinstance(inner.get(last), dict) and not isinstance(value, dict):
        path = ".".join([*parents, last])
        if path not in GROUPS:
            raise ConfigError(f"{key}={value}: keys below {key} were given before.")
        inner[last][GROUPS[path]] = value
        return
    inner[last] = value


def read_yaml(path: Path) -> dict[str, Any]:
    """Keys and values of a YAML file; a ConfigError when there is no such file, or it is not that."""
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf8"))
    except FileNotFoundError:
        near = [str(p) for p in sorted(path.parent.glob("*.yaml"))] if path.parent.is_dir() else []
        raise ConfigError(f"{path}: no such file.{closest(str(path), near)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}.") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path}: expected keys and values, found a {type(loaded).__name__}.")
    return loaded


def to_yaml(config: RunConfig) -> str:
    """The configuration as YAML, each key with its help text and allowed range as a comment."""
    return "\n".join(_yaml_lines(config, 0)) + "\n"


def _yaml_lines(config: Any, depth: int) -> Iterator[str]:
    pad = "  " * depth
    for entry in dataclasses.fields(config):
        value, bounds = getattr(config, entry.name), allowed_range(entry)
        comment = entry.metadata.get("help", "") + (f" ({bounds})" if bounds else "")
        if dataclasses.is_dataclass(value):
            yield f"{pad}{entry.name}:  # {comment}"
            yield from _yaml_lines(value, depth + 1)
        else:
            plain = OmegaConf.to_container(OmegaConf.create({"v": value}))["v"]  # type: ignore[index, call-overload]
            text = yaml.safe_dump(plain, default_flow_style=True, width=10_000).removesuffix("\n...\n").strip()
            yield f"{pad}{entry.name}: {text}  # {comment}"
