"""What is compared: entries as they are written on the command line, and their configurations in one setting.

The first entry gives the setting: everything outside ``method`` and ``agents``. Of the other entries' YAML only these
two parts enter, and ``key=value`` overrides go to every method that has the key.
"""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from strata.cluster.early import settings_among
from strata.cluster.report.settings import Config, dotted, in_common, setting_of
from strata.engine.config.load import OWN, load_config, own_keys, to_dict
from strata.engine.config.schema import RunConfig
from strata.engine.config.written import require_once
from strata.engine.errors import ConfigError, StrataError, StrataWarning
from strata.engine.evaluation.config import OF_METHODS
from strata.engine.method.find import method_names
from strata.engine.suggest import closest

BETWEEN = re.compile(r",(?=[A-Za-z_][\w.]*=)")  # a comma before a key; those within a value are left alone


@dataclass(frozen=True)
class Entry:
    """A method, or a variation of it, to compare.

    Attributes:
        label: what the user wrote; it names the entry in tables and plots.
        source: a method's name or a YAML file.
        overrides: of this entry alone, ``key=value``.
        keys: those that belong to its method.
    """

    label: str
    source: str
    overrides: Sequence[str]
    keys: Sequence[str]

    def takes(self, override: str) -> bool:
        """Whether a ``key=value`` concerns the entry: it is of the setting, or the method has such a key."""
        key = override.partition("=")[0]
        if key.split(".")[0] not in OWN and not any(key == own or own.startswith(f"{key}.") for own in OF_METHODS):
            return True
        return any(key == own or key.startswith(f"{own}.") or own.startswith(f"{key}.") for own in self.keys)


def resolve(words: Sequence[str]) -> tuple[dict[str, RunConfig], list[str]]:
    """The configurations to run, by label, and remarks about what was set aside.

    Args:
        words: ``METHOD``, ``METHOD:key=value,key=value…`` and ``key=value``; a YAML file may stand for a method.

    Raises:
        ConfigError: for anything wrong with a word, a key or a value, or where the entries are not in one setting.
    """
    entries, overrides = parse(words)
    _check_overrides(entries, overrides)
    configs: dict[str, RunConfig] = {}
    remarks: list[str] = []
    for entry in entries:
        given = [*filter(entry.takes, overrides), *entry.overrides]
        try:
            configs[entry.label] = load_config(entry.source, given, base=entries[0].source)
        except ConfigError as error:
            raise ConfigError(f"{entry.label}: {error}") from None
        remarks += _set_aside(entry, given, configs[entry.label], entries[0].label)
    require_one_setting(in_common({label: to_dict(config) for label, config in configs.items()}, setting_of))
    return configs, remarks


def parse(words: Sequence[str]) -> tuple[list[Entry], list[str]]:
    """Tell the entries from the overrides for all.

    Raises:
        ConfigError: when there is no entry, one is named twice, or its method is unknown.
    """
    overrides = settings_among(words)
    entries = [_entry(word) for word in words if word not in overrides]
    if not entries:
        raise StrataError(f"compare: name the methods to compare, e.g. {', '.join(method_names())}.")
    labels = [entry.label for entry in entries]
    if twice := [label for label in labels if labels.count(label) > 1]:
        raise ConfigError(f"{twice[0]}: it is named twice. Vary it, e.g. {twice[0]}:method.lr=0.1, or name it once.")
    return entries, overrides


def _entry(word: str) -> Entry:
    head = word.partition("=")[0]
    source, colon, _ = head.rpartition(":")  # the last colon before the first "=": paths may hold others
    if not colon or (head == word and word.endswith((".yaml", ".yml"))):
        source, overrides = word, []
    else:
        overrides = BETWEEN.split(word[len(source) + 1 :])
    if not all("=" in override for override in overrides):
        raise ConfigError(f"{word}: expected METHOD:key=value,key=value, e.g. fedprox:method.mu=0.1.")
    try:
        require_once(overrides)
        return Entry(word, source, overrides, own_keys(source))
    except ConfigError as error:
        raise ConfigError(f"{word}: {error}") from None


def _check_overrides(entries: Sequence[Entry], overrides: Sequence[str]) -> None:
    for override in overrides:
        key = override.partition("=")[0]
        if key == "algorithm":
            raise ConfigError(f"{override}: name the methods as words, e.g. strata compare permfl fedavg.")
        if not any(entry.takes(override) for entry in entries):
            known = sorted({own for entry in entries for own in entry.keys})
            names = ", ".join(entry.label for entry in entries)
            raise ConfigError(f"{key}: no such key, in {names}.{closest(key, known)} Keys: {', '.join(known)}.")


def _set_aside(entry: Entry, given: Sequence[str], config: RunConfig, first: str) -> Iterator[str]:
    """Say which shared values of an entry's own YAML gave way to the first entry's."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", StrataWarning)  # of a configuration that nobody runs
            alone = setting_of(to_dict(load_config(entry.source, given)))
    except ConfigError:  # alone it would not even fit together
        return
    used, default = setting_of(to_dict(config)), setting_of(to_dict(RunConfig()))
    if changed := sorted(key for key in alone if alone[key] not in (used.get(key), default.get(key))):
        values = ", ".join(f"{key}={alone[key]}" for key in changed)
        yield f"{entry.label}: {values} of its YAML gave way to the setting of {first}"


def require_one_setting(settings: Mapping[str, Config]) -> None:
    """Check that settings agree: flat ones, by the name under which an error speaks of them.

    Raises:
        ConfigError: naming the first key that differs.
    """
    (first, base), *others = settings.items()
    for name, setting in others:
        for key in [*base, *(key for key in setting if key not in base)]:
            if base.get(key) != setting.get(key):
                raise ConfigError(
                    f"{key} is {setting.get(key)!r} in {name} and {base.get(key)!r} in {first}: what is compared must "
                    "agree in everything but method.…, agents.…, transport.…, robust.…, evaluation.personal, and for "
                    "whom servers wait (where they do not: also in the rounds)"
                )


def describe_setting(config: Config, seeds: Sequence[int]) -> str:
    """The shared setting in a line; ``config`` as nested plain values."""
    flat = dotted(config)
    shares = "".join(
        f", {flat[f'{tier}.participation']:.3g} of the {tier} invited"
        for tier in ("clients", "teams")
        if flat[f"{tier}.participation"] != 1
    )
    unseen = f", {flat['evaluation.unseen']:.3g} of the clients unseen" if flat.get("evaluation.unseen") else ""
    hostile = f", {flat['attacks.share']:.3g} attack ({flat['attacks.kind']})" if flat.get("attacks.share") else ""
    named = "seed" if len(seeds) == 1 else "seeds"
    every = flat["evaluation.every"]
    facts = [
        f"data {flat['data.name']}",
        f"partition {flat['partition.name']}",
        f"model {flat['model.name']}",
        f"{flat['clients.count']} clients ({flat['teams.count']} teams, where a method has them)"
        f"{shares}{unseen}{hostile}",
        f"delays {flat['delays.name']}",
        f"{flat['rounds']} rounds{f', evaluated every {every}' if every not in (0, 1) else ''}",
        f"{named} {', '.join(map(str, seeds))}",
    ]
    return " · ".join(facts)
