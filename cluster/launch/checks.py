"""Checks of what is written into launch files beside the run itself."""

import re

from strata.engine.errors import ConfigError

LABEL = re.compile(r"[a-z]([-a-z0-9]{0,50}[a-z0-9])?")
PLAIN = re.compile(r"[\w.,:/@%+~-]+", re.ASCII)


def label(option: str, text: str) -> str:
    """A name that Kubernetes, Slurm and file systems take alike.

    Raises:
        ConfigError: where it is none; ``option`` says which was given.
    """
    if not LABEL.fullmatch(text):
        raise ConfigError(f"{option} {text}: expected up to 52 lower case letters, digits and dashes, e.g. strata-a1.")
    return text


def plain(option: str, text: str) -> str:
    """A text that stands in a file as it is, with nothing that a shell or YAML would read otherwise.

    Raises:
        ConfigError: where it is empty, or holds blanks, quotes or the like; ``option`` says which was given.
    """
    if not PLAIN.fullmatch(text):
        raise ConfigError(
            f"{option} {text!r}: expected letters, digits and any of . , : / @ % + ~ - _, without blanks."
        )
    return text


def plain_or_none(option: str, text: str) -> str:
    """An empty text as it is, another one checked as by :func:`plain`.

    Raises:
        ConfigError: see there.
    """
    return plain(option, text) if text else ""


def at_least(option: str, value: int, least: int) -> int:
    """A whole number that is not below the least one.

    Raises:
        ConfigError: where it is; ``option`` says which was given.
    """
    if value < least:
        raise ConfigError(f"{option} {value}: expected at least {least}.")
    return value
