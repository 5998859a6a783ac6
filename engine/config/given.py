"""What a run is given as objects of Python instead of names: data, who holds which rows, delay profiles, code.

Objects stay in memory and are sent to actors; no file holds them. The configuration says that they were given
(``data.name=memory:NAME``, ``partition.name=given``, ``delays.name=given``,
``clients.mode=given``), and names classes and functions by where they are defined (``module:name``; a script's or a
notebook's are of ``__main__``).
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from strata.engine.clock.devices import Profile
from strata.engine.config.load import Settings, load_config, nested
from strata.engine.config.schema import RunConfig
from strata.engine.config.written import parse_overrides, require_once
from strata.engine.data.dataset import Dataset, FederatedData
from strata.engine.errors import ConfigError
from strata.engine.method.algorithm import Algorithm
from strata.engine.method.find import MAIN, name_of, path_of
from strata.engine.rounds.schedules import Waiting
from strata.engine.state.encoding import types_in

MODEL_KEYS = ("model", "model.name")
SCHEDULES = {"schedule": "clients.mode", "team_schedule": "teams.mode"}
"""Which setting says that a schedule is given."""


@dataclass(frozen=True)
class Given:
    """Objects that a run is made of; None for what the configuration names.

    Attributes:
        data: the data set.
        rows: the rows of each client, by client id.
        profiles: the delay profile of each client, in their order.
        schedule: how long servers wait for their clients.
        team_schedule: how long the global server waits for its teams.
        dealt: data that were dealt before, when the run began; in place of ``data`` and ``rows``.
    """

    data: Dataset | None = None
    rows: Mapping[int, Sequence[int]] | None = None
    profiles: Sequence[Profile] | None = None
    schedule: Waiting | None = None
    team_schedule: Waiting | None = None
    dealt: FederatedData | None = None

    @property
    def any(self) -> bool:
        """Whether there are any objects."""
        return any(value is not None for value in vars(self).values())


NOTHING = Given()

Source = str | type[Algorithm[Any, Any, Any, Any]]
"""What is run: the name of a method, a YAML file, or the class of a method."""


def taken(settings: Settings) -> tuple[dict[str, Any], Given]:
    """Settings in which names stand for objects, and the objects.

    Raises:
        ConfigError: for an object that no name can stand for.
    """
    plain = dict(settings)
    data = rows = profiles = None
    schedules: dict[str, Waiting] = {}
    if isinstance(settings.get("data"), Dataset):
        data = settings["data"]
        plain["data"] = f"memory:{data.name}"
    if _are_rows(settings.get("partition")):
        rows = _by_client(settings["partition"])
        plain["partition"] = "given"
    if _are_profiles(settings.get("delays")):
        profiles = tuple(settings["delays"])
        plain["delays"] = "given"
    for key in MODEL_KEYS:
        if callable(settings.get(key)):
            plain[key] = path_of(settings[key], key)
    for key, mode in SCHEDULES.items():
        if key in plain:
            schedules[key] = own = plain.pop(key)
            if not isinstance(own, Waiting):
                raise ConfigError(
                    f"{key}={own!r:.80}: expected an instance of a class of your own that is a strata.Waiting. "
                    f"{mode} names the schedules that Strata has."
                )
            plain[mode] = "given"
    if "metrics" in plain:
        plain["evaluation"] = _with_metrics(plain.pop("metrics"), plain.get("evaluation", {}))
    model = plain.get("model")
    if isinstance(model, Mapping) and callable(model.get("name")):
        plain["model"] = {**model, "name": path_of(model["name"], "model.name")}
    return plain, Given(data, rows, profiles, schedules.get("schedule"), schedules.get("team_schedule"))


def _with_metrics(metrics: object, evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the group ``evaluation`` with metrics of the user's own, functions or ``module:function``."""
    if not isinstance(metrics, Mapping) or not all(callable(one) or isinstance(one, str) for one in metrics.values()):
        raise ConfigError(
            f"metrics={metrics!r:.80}: expected functions by name, e.g. {{'mape': mape}}, or names of functions, "
            "package.module:function. Strata's own are named by evaluation.metrics."
        )
    named = {name: one if isinstance(one, str) else path_of(one, "metrics") for name, one in metrics.items()}
    return {**evaluation, "own_metrics": named}


def load_given(source: Source, overrides: Sequence[str] | Settings, settings: Settings) -> tuple[RunConfig, Given]:
    """The checked configuration of a new run, and the objects that it is given.

    Data that say which client a sample comes from are dealt so, and those with a test split keep it, unless settings
    or a file of the user's say otherwise.

    Args:
        source: what to run.
        overrides: ``key=value`` as on the command line, or values by key.
        settings: more of these, by key.

    Raises:
        ConfigError: for anything wrong with it.
    """
    name = name_of(source) if isinstance(source, type) else source
    if not isinstance(overrides, Mapping):
        require_once(overrides)
    by_key = overrides if isinstance(overrides, Mapping) else _unread(parse_overrides(overrides))
    if twice := sorted(set(by_key) & set(settings)):
        raise ConfigError(f"{twice[0]}: it is given twice. Give it once.")
    plain, given = taken({**by_key, **settings})
    said = nested(plain)
    if not str(name).endswith((".yaml", ".yml")):
        for key, value in _follows(given, said):
            group, _, last = key.partition(".")
            said.setdefault(group, {}).setdefault(last, value)
    return load_config(name, said), given


def _unread(parsed: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Nested values by keys with dots."""
    flat: dict[str, Any] = {}
    for name, value in parsed.items():
        key = f"{path}{name}"
        flat |= _unread(value, f"{key}.") if isinstance(value, Mapping) and value else {key: value}
    return flat


def _follows(given: Given, said: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """What the objects say of the settings themselves."""
    data, partition = given.data, said.get("partition", {})
    if given.rows is not None:
        yield "clients.count", len(given.rows)
    if data is not None and data.natural_test is not None:
        yield "data.split", "published"
    if data is not None and data.natural is not None and "name" not in partition:
        yield "partition.name", "natural"
        yield "clients.count", len(np.unique(data.natural))


def _are_rows(value: object) -> bool:
    if isinstance(value, Mapping):
        return bool(value) and all(isinstance(key, int | np.integer) for key in value)
    return isinstance(value, list | tuple)


def _by_client(value: Mapping[int, Any] | Sequence[Any]) -> Mapping[int, Sequence[int]]:
    items = value.items() if isinstance(value, Mapping) else enumerate(value)
    rows = {}
    for client, own in items:
        column = np.asarray(own)
        if column.ndim != 1 or (len(column) and column.dtype.kind not in "iu"):
            raise ConfigError(
                f"partition: client {client} is given {own!r:.60}; expected a list of rows, whole numbers."
            )
        rows[int(client)] = column.astype(np.int64)
    return rows  # type: ignore[return-value]


def _are_profiles(value: object) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(one, Profile) for one in value)


def main_names(config: RunConfig) -> dict[str, object]:
    """What a run needs of ``__main__``, a script or a notebook, by name: the module that actors have another of."""
    own_metrics = config.evaluation.own_metrics.values()
    paths = [config.algorithm, *(member.name for member in config.model.members()), *own_metrics]
    own = [name for module, _, name in (path.partition(":") for path in paths) if module == MAIN]
    if not own:
        return {}
    found = vars(sys.modules[MAIN])
    return {**types_in(MAIN), **{name: found[name] for name in own if name in found}}
