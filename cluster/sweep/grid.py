"""What a sweep runs: from settings with several values to the configuration of each run."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from strata.engine.config.load import load_config
from strata.engine.config.schema import RunConfig, for_seed
from strata.engine.errors import ConfigError
from strata.engine.method.find import short_name
from strata.engine.seeding import uniform

RANGE = re.compile(r"(uniform|loguniform|randint)\(([^,()]+),([^,()]+)\)")
OPENING, CLOSING, QUOTES = "([{", ")]}", "'\""
OF_ALL = ("output", "ray", "runtime")
"""What all runs of a sweep have in common: where their folders lie, and what they run on."""


@dataclass(frozen=True)
class Trial:
    """One run of a sweep.

    Attributes:
        name: of its folder.
        values: of the swept settings, as they were written, by key.
        config: of one seed.
    """

    name: str
    values: Mapping[str, str]
    config: RunConfig


@dataclass(frozen=True)
class Range:
    """Values that are drawn: ``uniform(a,b)``, ``loguniform(a,b)``, or whole ones, ``randint(a,b)`` with both ends."""

    key: str
    kind: str
    low: float
    high: float

    def drawn(self, number: int) -> str:
        """The value of sample ``number``, which depends on nothing but the key and that number."""
        share = uniform(0, "sweep", self.key, member=number)
        if self.kind == "randint":
            return str(int(self.low) + int(share * (int(self.high) - int(self.low) + 1)))
        if self.kind == "loguniform":
            return f"{math.exp(math.log(self.low) + share * math.log(self.high / self.low)):.6g}"
        return f"{self.low + share * (self.high - self.low):.6g}"


def trials_of(source: str, words: Sequence[str], samples: int = 0) -> list[Trial]:
    """The runs of a sweep: each combination of values, for each sample of the ranges, for each seed.

    Args:
        source: a method's name or a YAML file.
        words: ``key=value``, of which some have several values, ``method.lr=0.1,0.01``, or a range; see :class:`Range`.
        samples: how often ranges are drawn; 0 where there are none.

    Raises:
        ConfigError: for anything wrong with a word, a key or a value, before anything runs; where nothing is swept.
    """
    axes, ranges, fixed = _parsed(words)
    if ranges and not samples:
        raise ConfigError(f"{ranges[0].key}={ranges[0].kind}(…): expected --samples N, how often ranges are drawn.")
    if samples and not ranges:
        raise ConfigError(f"--samples {samples}: expected a range to draw from, e.g. method.lr=loguniform(1e-3,1).")
    trials: list[Trial] = []
    for values in _combinations(axes, ranges, samples):
        config = load_config(source, [*fixed, *(f"{key}={value}" for key, value in values.items())])
        for seed in config.seeds or [config.seed]:
            name = f"{len(trials):03d}-{short_name(config.algorithm)}-seed{seed}"
            trials.append(Trial(name, values, for_seed(config, seed)))
    if len(trials) < 2:
        raise ConfigError(
            "sweep: nothing is swept. Expected a setting with several values, e.g. method.lr=0.1,0.01, or seeds=[1,2]; "
            "for one run there is `strata run`."
        )
    return [_named(trial) for trial in trials]


def label_of(values: Mapping[str, str], seed: int) -> str:
    """What a run of a sweep is called for people: ``method.lr=0.1, seed 0``."""
    return ", ".join([*(f"{key}={value}" for key, value in values.items()), f"seed {seed}"])


def _named(trial: Trial) -> Trial:
    """The trial under its label for trackers, unless the settings name it."""
    tracking = trial.config.tracking
    if tracking.name:
        return trial
    named = replace(tracking, name=label_of(trial.values, trial.config.seed))
    return replace(trial, config=replace(trial.config, tracking=named))


def _combinations(axes: Mapping[str, Sequence[str]], ranges: Sequence[Range], samples: int) -> Iterator[dict[str, str]]:
    for combination in product(*axes.values()):
        for number in range(max(1, samples)):
            drawn = {one.key: one.drawn(number) for one in ranges}
            yield {**dict(zip(axes, combination, strict=True)), **drawn}


def _parsed(words: Sequence[str]) -> tuple[dict[str, list[str]], list[Range], list[str]]:
    """Settings with several values, by key; ranges; and what is the same in all runs."""
    axes: dict[str, list[str]] = {}
    ranges: list[Range] = []
    fixed: list[str] = []
    for word in words:
        key, _, text = word.partition("=")
        values, found = split(text), RANGE.fullmatch(text)
        if len(values) == 1 and not found:
            fixed.append(word)
            continue
        if key == "seeds":
            raise ConfigError(f"{word}: expected a list of seeds, e.g. seeds=[{text}].")
        if key.split(".")[0] in OF_ALL:
            raise ConfigError(f"{word}: expected one value, which all runs of a sweep have in common.")
        if key in axes or any(one.key == key for one in ranges):
            raise ConfigError(f"{word}: {key} is swept twice. Name all of its values once.")
        if found:
            ranges.append(_range(word, key, *found.groups()))
        elif twice := [value for value in values if values.count(value) > 1]:
            raise ConfigError(f"{word}: {twice[0]!r} is given twice; expected each value once.")
        else:
            axes[key] = values
    return axes, ranges, fixed


def split(text: str) -> list[str]:
    """Values that commas separate; those within brackets or quotes separate nothing: ``[1,2],[3]`` are two."""
    values, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in QUOTES:
            quote = letter
        else:
            depth += (letter in OPENING) - (letter in CLOSING)
        if letter == "," and not depth and not quote:
            values.append("")
        else:
            values[-1] += letter
    return values


def _range(word: str, key: str, kind: str, low: str, high: str) -> Range:
    number = int if kind == "randint" else float
    try:
        found = Range(key, kind, number(low), number(high))
    except ValueError:
        raise ConfigError(f"{word}: expected two {'whole ' * (number is int)}numbers, got {low} and {high}.") from None
    least = 0.0 if kind == "loguniform" else -math.inf
    if not least < found.low < found.high < math.inf:
        above = " above 0" if kind == "loguniform" else ""
        raise ConfigError(f"{word}: expected a lower bound{above} and a higher one, got {low} and {high}.")
    return found
