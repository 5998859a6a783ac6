"""Delay profiles and where they are read from: a YAML of device classes, or a CSV trace of measured devices."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from strata.engine.clock.csv_rows import read_client, read_rows
from strata.engine.errors import ConfigError, DataError

JitterName = Literal["none", "lognormal", "uniform", "exponential"]

SHIPPED = Path(__file__).with_name("devices.yaml")

REQUIRED = ("flops_per_s", "down_bytes_per_s", "up_bytes_per_s", "latency_s")
OPTIONAL = ("availability", "dropout")


@dataclass(frozen=True)
class Profile:
    """What a device computes and transfers, and how reliable it is. By default infinitely fast and reliable.

    Attributes:
        device: name of the device class.
        flops_per_s: FLOP/s of training, > 0; may be infinite.
        down_bytes_per_s: rate of what it receives, > 0; may be infinite.
        up_bytes_per_s: rate of what it sends, > 0; may be infinite.
        latency_s: round trip of one call.
        jitter: distribution of the factor, of mean 1, on the time of computing.
        jitter_scale: its spread; see :func:`strata.engine.clock.delays.jitter_factor`.
        availability: probability of being available in a round.
        dropout: probability of failing during a call.
    """

    device: str
    flops_per_s: float = math.inf
    down_bytes_per_s: float = math.inf
    up_bytes_per_s: float = math.inf
    latency_s: float = 0.0
    jitter: JitterName = "none"
    jitter_scale: float = 0.0
    availability: float = 1.0
    dropout: float = 0.0


def device_classes(path: str) -> dict[str, Profile]:
    """Device classes by name, of a YAML file; an empty path is the one that ships with Strata.

    Raises:
        ConfigError: naming the file, the class and the key that is wrong.
    """
    return _read(Path(path)) if path else dict(_shipped())


@cache
def _shipped() -> Mapping[str, Profile]:
    return _read(SHIPPED)


def _read(file: Path) -> dict[str, Profile]:
    try:
        loaded: object = yaml.safe_load(file.read_text(encoding="utf8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"delays.devices={file}: cannot be read: {error}.") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"delays.devices={file}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(loaded, dict) or not all(isinstance(values, dict) for values in loaded.values()):
        raise ConfigError(f"delays.devices={file}: expected names of device classes, each with keys of its own.")
    return {str(name): _device(file, str(name), values) for name, values in loaded.items()}


def _device(file: Path, name: str, values: Mapping[str, object]) -> Profile:
    try:
        numbers = _numbers({key: value for key, value in values.items() if key != "source"})
    except ValueError as error:
        raise ConfigError(f"{file}, {name}: {error}.") from None
    return Profile(name, **numbers)


def read_trace(path: str) -> list[Profile]:
    """Profiles of a CSV file, in the order of its ``client`` column.

    The columns are client, flops_per_s, down_bytes_per_s, up_bytes_per_s and latency_s; availability, dropout and
    device may be left out or left empty. Rates are > 0, ``inf`` is unlimited; clients are distinct whole numbers.

    Raises:
        DataError: with the line, what it holds and what was expected.
    """
    profiles: dict[int, Profile] = {}
    for line, row in read_rows("delays.trace", path, ("client", *REQUIRED), (*OPTIONAL, "device")):
        try:
            client = read_client(row.pop("client"))
            if client in profiles:
                raise ValueError(f"client {client} was given before, expected one line for each client")
            device = row.pop("device", "") or "trace"
            profiles[client] = Profile(device, **_numbers({key: text for key, text in row.items() if text}))
        except ValueError as error:
            raise DataError(f"{path}, line {line}: {error}.") from None
    if not profiles:
        raise DataError(f"{path}: expected at least one client below the header, found none.")
    return [profiles[client] for client in sorted(profiles)]


def _numbers(values: Mapping[str, object]) -> dict[str, Any]:
    """Read the numbers of one device; a ValueError says what is missing, unknown or out of range."""
    missing = [key for key in REQUIRED if key not in values]
    unknown = [str(key) for key in values if key not in (*REQUIRED, *OPTIONAL)]
    if unknown:
        raise ValueError(f"unknown: {', '.join(unknown)}; expected {', '.join((*REQUIRED, *OPTIONAL))}")
    if missing:
        raise ValueError(f"{', '.join(missing)} missing, expected a number each")
    return {key: _number(key, value) for key, value in values.items()}


def _number(key: str, value: object) -> float:
    # YAML 1.1 reads 1e9 as text, so text is read as a number here, as it is in a CSV file.
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except ValueError:
        number = math.nan
    if key in OPTIONAL:
        fits, expected = 0 <= number <= 1, "a probability from 0 to 1"
    elif key == "latency_s":
        fits, expected = 0 <= number < math.inf, "seconds ≥ 0"
    else:
        fits, expected = number > 0, "a number > 0 (inf: unlimited)"
    if not fits:
        raise ValueError(f"{key} is {value!r}, expected {expected}")
    return number
