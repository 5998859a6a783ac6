"""What is written about a run, in YAML files and on the command line, as plain keys and values that nobody checked yet.

The only module that imports OmegaConf, which takes what :mod:`.reading` gives. It needs no torch.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from strata.engine.config.reading import read
from strata.engine.errors import ConfigError
from strata.engine.suggest import closest

GROUPS = ("data", "partition", "model", "delays", "teams.formation")
"""Groups of settings that have a name: ``data=mnist`` is short for ``data.name=mnist``."""


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """``["a.b=1", "a.c=x"]`` → ``{"a": {"b": 1, "c": "x"}}``, values read as YAML.

    Raises:
        ConfigError: for text that is not key=value, a value that YAML cannot read, or keys that contradict each other.
    """
    result: dict[str, Any] = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key or not all(key.split(".")):
            raise ConfigError(f"{text!r}: expected key=value, e.g. rounds=50 or clients.num_gpus=0.1.")
        try:
            parsed = _plain({"value": _of_word(value)})["value"] if value else ""
        except (yaml.YAMLError, OmegaConfBaseException) as error:
            raise ConfigError(
                f"{_shown(text)}: the value cannot be read ({_problem(error)}); quote it, e.g. '{key}=\"…\"'."
            ) from None
        _place(result, f"{key}.name" if key in GROUPS and not isinstance(parsed, dict) else key, parsed)
    return result


def _of_word(value: str) -> Any:
    """What a value of the command line says: YAML, but for ``#``, which begins no comment there."""
    return value.strip() if re.match(r"[^'\"\[{].*(?<=\s)#|#", value) else read(value)


def _place(result: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for depth, parent in enumerate(parents, 1):
        result = result.setdefault(parent, {})
        if not isinstance(result, dict):
            raise ConfigError(f"{key}: {'.'.join(parents[:depth])} was given a value of its own before.")
    if isinstance(result.get(last), dict) and not isinstance(value, dict):
        raise ConfigError(f"{key}={value}: keys below {key} were given before.")
    result[last] = value


def read_yaml(path: Path) -> dict[str, Any]:
    """Keys and values of a YAML file, as nested dicts.

    Raises:
        ConfigError: when there is no such file, or it holds something else.
    """
    try:
        loaded = _plain(read(path.read_text(encoding="utf8")))
    except FileNotFoundError:
        near = [str(p) for p in sorted(path.parent.glob("*.yaml"))] if path.parent.is_dir() else []
        raise ConfigError(f"{path}: no such file.{closest(str(path), near)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}.") from None
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{path}: not valid YAML: {_problem(error)}.") from None
    if not isinstance(loaded, dict):
        found = "nothing" if loaded is None else f"a {type(loaded).__name__}"
        raise ConfigError(f"{path}: expected keys and values, found {found}.")
    return loaded


def _plain(value: Any) -> Any:
    """What was read, as plain dicts and lists, with text as keys; other values are as they are."""
    # Unresolved: what ${…} would mean is said to mean nothing when it is checked.
    return OmegaConf.to_container(OmegaConf.create(value)) if isinstance(value, dict | list) else value


def _problem(error: Exception) -> str:
    """What YAML or OmegaConf says was wrong, in one line, and where."""
    mark = getattr(error, "problem_mark", None)
    where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    return _shown(" ".join(str(getattr(error, "problem", None) or error).split())) + where


def _shown(text: str) -> str:
    """Text as an error shows it: what cannot be printed escaped, and its first hundred characters."""
    printable = text.encode("utf8", "backslashreplace").decode("utf8")
    return printable if len(printable) <= 100 else f"{printable[:100]}…"
