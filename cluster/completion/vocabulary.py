"""What can be typed after ``strata``: commands with their options, names, keys of settings, and values of these."""

import dataclasses
import re
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from strata.engine.config.schema import RunConfig
from strata.engine.config.written import GROUPS, read_yaml
from strata.engine.data.sources.catalogue import EMBEDDED, KNOWN
from strata.engine.method.find import load_method, method_names, shipped_settings
from strata.engine.models.supernets.spaces import NAMES
from strata.engine.models.zoo import FAMILIES, MODELS

SETTINGS, METHODS, FOLDERS = "key=value", "METHOD", "RUN_DIR"
"""What usages call settings, names of methods, and folders of runs."""


@dataclass(frozen=True)
class Line:
    """What may follow a command.

    Attributes:
        options: its options, ``--profile`` and so on.
        words: words that it takes: kinds of files to launch, sets to fetch, shells.
        methods: whether it takes names of methods; ``settings``: whether it takes settings of runs.
        folders: whether it takes folders of runs.
    """

    options: Sequence[str]
    words: Sequence[str]
    methods: bool
    settings: bool
    folders: bool


@dataclass(frozen=True)
class Vocabulary:
    """All that can be typed.

    Attributes:
        lines: what may follow each command, by its name; that of a kind of launch file is ``launch KIND``.
        names: methods, and settings that have names.
        keys: of every run's settings.
        own: keys of a method alone, by name.
        values: what a key may be set to, where that is one of a few words.
    """

    lines: Mapping[str, Line]
    names: Sequence[str]
    keys: Sequence[str]
    own: Mapping[str, Sequence[str]]
    values: Mapping[str, Sequence[str]]

    @property
    def commands(self) -> list[str]:
        """The commands themselves."""
        return list(dict.fromkeys(name.split()[0] for name in self.lines))


def vocabulary(parsers: Mapping[str, ArgumentParser]) -> Vocabulary:
    """All that can be typed, of commands with these parsers, by name."""
    settings = dict(_settings(RunConfig(), ""))
    kinds = {name: load_method(name) for name in method_names()}
    methods = {name: dict(_settings(kind.Config(), "method.")) for name, kind in kinds.items()}
    own = {**methods, **{name: methods[method] for name, method in _named_settings().items() if method in methods}}
    rules = dict.fromkeys(rule for kind in kinds.values() if kind.Control for rule in kind.Control.heuristics)
    known = {
        "data.name": [EMBEDDED, "synthetic", *KNOWN],
        "model.name": [*MODELS, *FAMILIES, *NAMES],
        "agents.policy": ["none", "rllib", *rules],
        "algorithm": [*kinds],
    }
    values = {**settings, **{key: found for keys in methods.values() for key, found in keys.items()}, **known}
    short = {group: values[f"{group}.name"] for group in GROUPS}
    return Vocabulary(
        lines=dict(_lines(parsers)),
        names=[*own],
        keys=[*GROUPS, *(key for key in settings if key != "method")],
        own={name: list(of_one) for name, of_one in own.items()},
        values={key: found for key, found in {**values, **short}.items() if found},
    )


def _lines(parsers: Mapping[str, ArgumentParser]) -> Iterator[tuple[str, Line]]:
    for name, parser in parsers.items():
        usage = parser.format_usage()
        kinds: Mapping[str, ArgumentParser] = parser.get_default("kinds") or {}
        yield (
            name,
            Line(
                options=[*dict.fromkeys(re.findall(r"--[a-z-]+", usage)), "--help"],
                words=[*kinds, *(parser.get_default("known") or ())],
                methods=METHODS in usage,
                settings=SETTINGS in usage,
                folders=FOLDERS in usage,
            ),
        )
        yield from ((f"{name} {kind}", line) for kind, line in _lines(kinds))


def _settings(config: Any, path: str) -> Iterator[tuple[str, list[str]]]:
    """Each key below a path, with the few words that its value may be; none where it may be anything."""
    hints = get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value, key = getattr(config, field.name), f"{path}{field.name}"
        if dataclasses.is_dataclass(value):
            yield from _settings(value, f"{key}.")
        else:
            yield key, _choices(hints[field.name])


def _choices(kind: Any) -> list[str]:
    if kind is bool:
        return ["true", "false"]
    if get_origin(kind) is Literal:
        return [str(one) for one in get_args(kind)]
    return []


def _named_settings() -> dict[str, str]:
    """The method of each setting that has a name."""
    return {name: str(read_yaml(path).get("algorithm")) for name, path in shipped_settings().items()}
