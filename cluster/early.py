"""What a command starts before it has imported what takes long, so that both go on side by side."""

from collections.abc import Sequence
from pathlib import Path

from strata.engine.errors import ConfigError


def begin_ray(source: str, overrides: Sequence[str]) -> None:
    """Begin to start a local Ray, if what is written asks for one: it takes as long as to import torch meanwhile."""
    asked = local_ray_for(source, overrides)
    if asked is not None:
        from strata.engine.runtime import local_ray

        local_ray.begin(*asked)


def begin_ray_among(words: Sequence[str]) -> None:
    """The same for the words of a comparison, unless some of its methods have a setting of their own there."""
    overrides = settings_among(words)
    entries = [word for word in words if word not in overrides]
    if entries and not any(key in entry for entry in entries for key in ("runtime=", "ray.")):
        begin_ray(entries[0].partition(":")[0], overrides)


def settings_among(words: Sequence[str]) -> list[str]:
    """Those of a comparison's words that are ``key=value``, and no method with settings of its own."""
    return [word for word in words if "=" in word and ":" not in word.partition("=")[0]]


def local_ray_for(source: str, overrides: Sequence[str]) -> tuple[int, int] | None:
    """CPUs and GPUs of the local Ray that a run will ask for; None where it will not, or what is written is wrong."""
    from strata.engine.config.written import parse_overrides, read_yaml

    try:
        said = read_yaml(Path(source)) if source.endswith((".yaml", ".yml")) else {}
        given = parse_overrides(overrides)
    except ConfigError:  # which is said once the whole configuration is read
        return None
    parts = said.get("ray", {}), given.get("ray", {})
    if not all(isinstance(part, dict) for part in parts):
        return None
    ray = {"address": "", "num_cpus": 0, "num_gpus": 0, **parts[0], **parts[1]}
    needed = given.get("runtime", said.get("runtime", "ray")) == "ray" and not ray["address"]
    asked = ray["num_cpus"], ray["num_gpus"]
    return asked if needed and all(type(number) is int and number >= 0 for number in asked) else None
