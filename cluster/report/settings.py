"""Configurations as flat keys, as they are written on the command line, and whose part of them is what."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields

from strata.engine.config.gathering import Gathering
from strata.engine.config.load import OWN, load_config, to_dict
from strata.engine.errors import ConfigError
from strata.engine.evaluation.config import OF_METHODS
from strata.engine.identity import PLACEMENT_KEYS

# The number of rounds is no matter of placement here: it decides what "after the last round" means.
INDIFFERENT = (*(key for key in PLACEMENT_KEYS if key != "rounds"), "seed", "evaluation.batch_size")

TIERS = ("clients", "teams")
# For whom a server waits: what is left of the settings of a tier beside how many there are, and who is invited.
WAITING = {field.name for field in fields(Gathering)} - {"count", "participation"}

# What becomes of messages, so that one method's accuracy can be read against their bytes, their noise or their mean.
OF_MESSAGES = ("transport", "robust")

# Where a server does not wait, a round is a step of its own, after one client's update or many, and how many clients
# are on a call at a time is no share of a cohort.
OF_STEPS = ("rounds", "evaluation.every", "evaluation.every_s", *(f"{tier}.participation" for tier in TIERS))

Config = Mapping[str, object]
"""A resolved configuration as nested plain values."""


def dotted(nested: Config, prefix: str = "") -> dict[str, object]:
    """``{"a": {"b": 1}}`` → ``{"a.b": 1}``, as keys are written on the command line."""
    flat: dict[str, object] = {}
    for key, value in nested.items():
        path = f"{prefix}{key}"
        flat |= dotted(value, f"{path}.") if isinstance(value, Mapping) and value else {path: value}
    return flat


def own_part(config: Config) -> dict[str, object]:
    """What of a configuration may differ between what is compared, flat; without the method's name.

    That is what belongs to the method, for whom servers wait, what becomes of messages, and what the personal models of
    one without any are.
    """
    return {key: value for key, value in dotted(config).items() if _is_own(key) and key != "algorithm"}


def setting_of(config: Config) -> dict[str, object]:
    """What of a configuration is the setting, which what is compared has in common, flat."""
    return {key: value for key, value in dotted(config).items() if not _is_own(key)}


def _is_own(key: str) -> bool:
    group, _, name = key.partition(".")
    return group in (*OWN, *OF_MESSAGES) or (group in TIERS and name in WAITING) or key in OF_METHODS


def entering(config: Config) -> dict[str, object]:
    """What of the setting decides a result of a seed, flat: no seeds, no folders, no placement."""
    return {
        key: value
        for key, value in setting_of(config).items()
        if not any(key == one or key.startswith(f"{one}.") for one in INDIFFERENT)
    }


def in_common(configs: Mapping[str, Config], part: Callable[[Config], dict[str, object]]) -> dict[str, Config]:
    """The parts of configurations that have to agree, flat, by the name of each; ``part`` takes one of a configuration.

    How many rounds there are, how many clients each takes, and how often one is evaluated, is free where not all
    servers wait for their cohorts.
    """
    waits = all(dotted(config).get(f"{tier}.mode") != "async" for config in configs.values() for tier in TIERS)
    free = () if waits else OF_STEPS
    return {
        name: {key: value for key, value in part(config).items() if key not in free} for name, config in configs.items()
    }


def label_of(config: Config, rivals: Iterable[Config]) -> str:
    """A method's name and, where it occurs with several settings, what this one sets differently from its YAML.

    Args:
        config: of the runs that need a label.
        rivals: configurations of everything that is compared, this one among them.
    """
    name, own = str(config["algorithm"]), own_part(config)
    others = [own_part(rival) for rival in rivals if rival["algorithm"] == name]
    usual = _usual(name) if len(others) > 1 else {}
    varied = [key for key in own if any(other.get(key) != own[key] for other in others) and own[key] != usual.get(key)]
    return f"{name}:{','.join(f'{key}={own[key]}' for key in varied)}" if varied else name


def _usual(name: str) -> dict[str, object]:
    try:
        return own_part(to_dict(load_config(name)))
    except ConfigError:  # a run of a method that this machine does not have
        return {}
