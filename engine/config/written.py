"""What is written about a run, in YAML files and on the command line, as plain keys and values that nobody checked yet.

The only module that imports OmegaConf, which takes what :mod:`.reading` gives. It needs no torch.
"""

import re
from collections.abc import Iterator, Sequence
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

RESUME = "resume"
"""What the command line has in place of a method, to go on with a run; it looks like a key."""


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """``["a.b=1", "a.c=x"]`` → ``{"a": {"b": 1, "c": "x"}}``, values read as YAML.

    Raises:
        ConfigError: for text that is not key=value, a value that YAML cannot read, or keys that contradict each other.
    """
    result: dict[str, Any] = {}
    for text in overrides:
        _place(result, *_parsed(text))
    return result


def _parsed(text: str) -> tuple[str, Any]:
    """The key of a word, that of the name where a group is given one, and its value; raises as above."""
    key, equals, value = text.partition("=")
    if not equals or not key or not all(key.split(".")):
        raise ConfigError(f"{text!r}: expected key=value, e.g. rounds=50 or clients.num_gpus=0.1.")
    if key == RESUME:
        raise ConfigError(
            f"{_shown(text)}: it is no setting, and stands in place of the method: `strata run {_shown(text)}`, or "
            "`strata sweep`. Settings may follow it."
        )
    try:
        parsed = _plain({"value": _of_word(value)})["value"] if value else ""
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(
            f"{_shown(text)}: the value cannot be read ({_problem(error)}); quote it, e.g. '{key}=\"…\"'."
        ) from None
    return f"{key}.name" if key in GROUPS and not isinstance(parsed, dict) else key, parsed


def require_once(words: Sequence[str]) -> None:
    """Check that no two words that were written together, ``key=value``, are of the same key.

    Words that are put together of several layers may be; of these the later wins.

    Raises:
        ConfigError: naming both; also where a word would replace what another says of a key below its own.
    """
    before: dict[str, str] = {}
    for word in words:
        keys = _keys(word)
        for key, other in before.items():
            if key in keys:
                raise ConfigError(f"{key}: it is given twice, by {_shown(other)} and by {_shown(word)}. Give it once.")
            if above := next((own for own in keys if key.startswith(f"{own}.")), None):
                raise ConfigError(
                    f"{_shown(word)}: keys below {above} were given before, by {_shown(other)}. Give all of it in one."
                )
        before |= dict.fromkeys(keys, word)


def latest(words: Sequence[str]) -> list[str]:
    """Words without those of whose keys later ones say something else."""
    kept: list[str] = []
    later: set[str] = set()
    for word in reversed(words):
        keys = _keys(word)
        if not any(key == own or key.startswith(f"{own}.") for key in keys for own in later):
            kept.append(word)
            later |= keys
    return kept[::-1]


def _keys(word: str) -> set[str]:
    """The keys of which a word says something; its own alone where that is all that can be read."""
    try:
        return set(_with_those_below(*_parsed(word)))
    except ConfigError:  # which whoever reads the value says
        return {word.partition("=")[0]}


def _with_those_below(key: str, value: Any) -> Iterator[str]:
    yield key
    for name, inner in value.items() if isinstance(value, dict) else ():
        yield from _with_those_below(f"{key}.{name}", inner)


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
