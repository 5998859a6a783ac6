"""The configuration of a run: its schema, and how files and command-line overrides become one checked object.

The only module that imports OmegaConf. Layers, later ones win: the schema's defaults, the method's own YAML (the
differences it needs), a user's YAML, ``key=value`` overrides. Every mistake is a :class:`~engine.errors.ConfigError`
that names the key, what was expected and the closest valid name, before anything is started.
"""

import dataclasses
import difflib
import importlib
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from engine.algorithm import Algorithm, TieredAlgorithm
from engine.data.config import DataConfig, FormationConfig, PartitionConfig
from engine.delays import DelayConfig
from engine.errors import ConfigError
from engine.models import ModelConfig
from engine.options import Validated, allowed_range, check, option
from engine.tracking_config import TrackingConfig


@dataclass(frozen=True)
class ResourceConfig:
    """Resources of one client class."""

    num_cpus: float = option(1.0, "CPUs of each actor", gt=0)
    num_gpus: float = option(0.0, "GPUs of each actor; fractions share a GPU and its memory", ge=0)


def _check_gpus(path: str, gpus: float) -> None:
    if gpus > 1 and gpus != int(gpus):
        raise ConfigError(f"{path}num_gpus={gpus:g} is out of range: expected a fraction ≤ 1, or a whole number.")


def _check_deadline(path: str, mode: str, deadline_s: float) -> None:
    if mode == "deadline" and deadline_s <= 0:
        raise ConfigError(f"{path}deadline_s={deadline_s:g}: {path}mode=deadline needs a deadline > 0 virtual seconds.")


@dataclass(frozen=True)
class ClientsConfig(Validated):
    """The client tier."""

    count: int = option(40, "number of clients", ge=1)
    participation: float = option(1.0, "share of a server's clients invited per (team) round, at least one", gt=0, le=1)
    mode: Literal["sync", "deadline"] = option("sync", "sync waits for all; deadline drops and counts late uploads")
    deadline_s: float = option(0.0, "virtual seconds after which an upload is late", ge=0)
    num_cpus: float = option(1.0, "CPUs of each client actor", gt=0)
    num_gpus: float = option(0.0, "GPUs of each client actor; a fraction caps its share of the memory too", ge=0)
    classes: dict[str, ResourceConfig] = option(
        {}, "resources by device class, e.g. clients.classes.laptop.num_cpus=2; other classes use the two above"
    )

    def validate(self, path: str) -> None:
        """A deadline tier needs a deadline; class resources have the same bounds."""
        _check_deadline(path, self.mode, self.deadline_s)
        _check_gpus(path, self.num_gpus)
        for name, resources in self.classes.items():
            check(resources, f"{path}classes.{name}.")
            _check_gpus(f"{path}classes.{name}.", resources.num_gpus)


@dataclass(frozen=True)
class TeamsConfig(Validated):
    """The team tier; flat methods have none and ignore this."""

    count: int = option(4, "number of teams", ge=1)
    participation: float = option(1.0, "share of the teams invited per global round, at least one", gt=0, le=1)
    mode: Literal["sync", "deadline"] = option("sync", "sync waits for all; deadline drops and counts late teams")
    deadline_s: float = option(0.0, "virtual seconds after which a team is late", ge=0)
    num_cpus: float = option(0.0, "CPUs of each team server's actor; they mostly wait", ge=0)
    num_gpus: float = option(0.0, "GPUs of each team server's actor", ge=0)
    formation: FormationConfig = option(FormationConfig(), "how clients form teams")

    def validate(self, path: str) -> None:
        """A deadline tier needs a deadline."""
        _check_deadline(path, self.mode, self.deadline_s)


@dataclass(frozen=True)
class ServerConfig:
    """The global server."""

    num_cpus: float = option(0.0, "CPUs of the global server's actor; it mostly waits", ge=0)
    num_gpus: float = option(0.0, "GPUs of the global server's actor", ge=0)


@dataclass(frozen=True)
class RayConfig:
    """Where the actors run."""

    address: str = option(
        "", "empty: a local Ray, started and shut down with the run; auto or HOST:PORT: join a cluster"
    )
    num_cpus: int = option(0, "local Ray: CPUs it may use; 0: all", ge=0)
    num_gpus: int = option(0, "local Ray: GPUs it may use, logical ones where there is no CUDA; 0: those found", ge=0)
    placement: Literal["pack", "spread"] = option("pack", "fill a node before the next, or spread over the nodes")
    start_timeout_s: float = option(60.0, "wall seconds within which all actors must have started", gt=0)


@dataclass(frozen=True)
class TrainingConfig:
    """Local training, whatever the method."""

    device: Literal["auto", "cpu", "cuda"] = option("auto", "auto: CUDA where the actor has a share of a GPU")


@dataclass(frozen=True)
class EvaluationConfig:
    """When and how models are evaluated."""

    every: int = option(1, "evaluate every so many global rounds, and after the last", ge=1)
    batch_size: int = option(1024, "samples per forward pass", ge=1)


@dataclass(frozen=True)
class CheckpointConfig:
    """When the run is saved."""

    every: int = option(10, "save every so many global rounds, and after the last; 0: never", ge=0)
    keep: int = option(2, "checkpoints kept, the newest ones", ge=1)


@dataclass(frozen=True)
class RunConfig(Validated):
    """A whole run."""

    algorithm: str = option("permfl", "the method: a module of algorithms/, or the dotted path of your own")
    rounds: int = option(50, "global rounds (T)", ge=1)
    seed: int = option(0, "all randomness derives from it", ge=0)
    seeds: list[int] = option([], "several seeds: one run each, then mean ± std; empty: just seed", ge=0)
    runtime: Literal["ray", "inprocess"] = option("ray", "ray: actors; inprocess: this process, without Ray")
    clients_per_actor: Any = option("auto", "auto: one actor per client while they fit, packed beyond; or a number")
    output: str = option("runs", "folder in which each run makes its own")
    method: Any = field(default=None, metadata={"help": "the method's own settings"})
    data: DataConfig = option(DataConfig(), "the data set")
    partition: PartitionConfig = option(PartitionConfig(), "how samples are dealt to clients")
    model: ModelConfig = option(ModelConfig(), "the architecture")
    clients: ClientsConfig = option(ClientsConfig(), "the client tier")
    teams: TeamsConfig = option(TeamsConfig(), "the team tier")
    server: ServerConfig = option(ServerConfig(), "the global server")
    delays: DelayConfig = option(DelayConfig(), "speeds, networks and the virtual clock")
    ray: RayConfig = option(RayConfig(), "Ray")
    training: TrainingConfig = option(TrainingConfig(), "local training")
    evaluation: EvaluationConfig = option(EvaluationConfig(), "evaluation")
    checkpoint: CheckpointConfig = option(CheckpointConfig(), "checkpoints")
    tracking: TrackingConfig = option(TrackingConfig(), "Weights & Biases")

    def validate(self, path: str) -> None:
        """What concerns several parts."""
        per_actor = self.clients_per_actor
        if per_actor != "auto" and (isinstance(per_actor, bool) or not isinstance(per_actor, int) or per_actor < 1):
            raise ConfigError(f"clients_per_actor={per_actor!r}: expected auto or a whole number ≥ 1.")
        if len(set(self.seeds)) != len(self.seeds):
            raise ConfigError(f"seeds={self.seeds}: every seed may be given once.")
        tiered = issubclass(load_method(self.algorithm), TieredAlgorithm)
        if tiered and self.teams.count > self.clients.count:
            raise ConfigError(
                f"teams.count={self.teams.count} is out of range: with clients.count={self.clients.count}, expected "
                f"≥ 1 and ≤ {self.clients.count}."
            )

    @property
    def method_class(self) -> type[Algorithm[Any, Any, Any, Any]]:
        """The method's class."""
        return load_method(self.algorithm)


def method_names() -> list[str]:
    """Names of the methods that ship with Strata: the modules of ``algorithms``."""
    package = importlib.import_module("algorithms")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_"))


def load_method(name: str) -> type[Algorithm[Any, Any, Any, Any]]:
    """The class of a method by its module's name; see :mod:`engine.algorithm`.

    Raises:
        ConfigError: when there is no such module, or it does not say which class is the method.
    """
    module = _method_module(name)
    method = getattr(module, "METHOD", None)
    if not (isinstance(method, type) and issubclass(method, Algorithm)):
        raise ConfigError(
            f"algorithm={name}: {module.__name__} must define METHOD, a FlatAlgorithm or TieredAlgorithm."
        )
    return method


def _method_module(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(f"algorithm={name}: expected a name or a dotted path. Found: {', '.join(method_names())}.")
    path = name if "." in name else f"algorithms.{name}"
    if "." not in name and name not in method_names():
        raise ConfigError(
            f"algorithm={name}: no such method.{_closest(name, method_names())} Found: {', '.join(method_names())}; "
            "a dotted path names a module of your own."
        )
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        raise ConfigError(f"algorithm={name}: cannot import {path}: {error}. Is its folder on PYTHONPATH?") from None


def load_config(source: str, overrides: Sequence[str] = ()) -> RunConfig:
    """The checked configuration of a method's name or a YAML file, with ``key=value`` overrides.

    Raises:
        ConfigError: for anything wrong with it.
    """
    layers = [(parse_overrides(overrides), "the command line")]
    if source.endswith((".yaml", ".yml")):
        layers.insert(0, (read_yaml(Path(source)), source))
    else:
        layers.insert(0, ({"algorithm": source}, "the command line"))
    return _resolve(layers)


def config_from_dict(plain: Mapping[str, Any], where: str) -> RunConfig:
    """The checked configuration of a resolved one, as :func:`to_dict` made it; defaults of YAML files do not enter."""
    return _merge([(dict(plain), where)], str(plain.get("algorithm", "")))


def to_dict(config: RunConfig) -> dict[str, Any]:
    """The configuration as plain nested dicts."""
    return dataclasses.asdict(config)


def _resolve(layers: list[tuple[dict[str, Any], str]]) -> RunConfig:
    name = "permfl"
    for layer, _ in layers:
        name = layer.get("algorithm", name)
    if not isinstance(name, str):
        raise ConfigError(f"algorithm={name!r}: expected the name of a method. Found: {', '.join(method_names())}.")
    module = _method_module(name)
    beside = Path(str(module.__file__)).with_suffix(".yaml")
    if beside.exists():
        layers = [(read_yaml(beside), str(beside)), *layers]
    return _merge(layers, name)


def _merge(layers: Sequence[tuple[dict[str, Any], str]], name: str) -> RunConfig:
    merged: DictConfig = OmegaConf.structured(RunConfig)
    _unlock(merged)
    merged.method = OmegaConf.structured(load_method(name).Config)
    _unlock(merged.method)
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
                f"{path}{key}: no such key, in {where}.{_closest(str(key), [str(k) for k in schema])} "
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
        raise ConfigError(f"{path}: no such file.{_closest(str(path), near)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}.") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path}: expected keys and values, found a {type(loaded).__name__}.")
    return loaded


def _closest(name: str, names: Sequence[str]) -> str:
    match = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f" Did you mean {match[0]}?" if match else ""


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
