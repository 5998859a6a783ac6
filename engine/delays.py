"""Delay profiles and the virtual clock. Time is computed from counted bytes and FLOPs, never measured.

    seconds = latency + bytes_down / rate_down + jitter · FLOPs / speed + bytes_up / rate_up

A rate is the smaller of the two ends'. Jitter is a random factor of mean 1. Units: seconds, bytes per second, FLOP/s.
"""

import csv
import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from engine.errors import ConfigError, DataError
from engine.options import Validated, option
from engine.seeding import generator

JitterName = Literal["none", "lognormal", "uniform", "exponential"]
UNLIMITED = math.inf
DEFAULT_MIX = {"phone_budget": 0.3, "phone_mid": 0.3, "phone_flagship": 0.15, "raspberry_pi_4": 0.1, "laptop": 0.15}


@dataclass(frozen=True)
class DelayConfig(Validated):
    """Speeds and networks of the clients, links of the servers, and what the clock does."""

    name: Literal["none", "classes", "lognormal", "pareto", "trace"] = option(
        "classes",
        "none (infinitely fast), classes (a mix of named devices), lognormal or pareto (speeds drawn), trace (a CSV)",
    )
    classes: dict[str, float] = option(DEFAULT_MIX, "classes: shares of named device classes, e.g. {laptop: 1, phone_mid: 3}")
    devices: str = option("", "classes: a YAML file of your own device classes; empty: the shipped ones")
    trace: str = option(
        "", "trace: CSV with flops_per_s,down_bytes_per_s,up_bytes_per_s,latency_s and maybe availability,dropout,device"
    )
    median_flops_per_s: float = option(1e10, "lognormal: median speed; pareto: the fastest clients' speed", gt=0)
    sigma: float = option(0.7, "lognormal: standard deviation of the logarithm of the speed", ge=0)
    shape: float = option(1.5, "pareto: shape of the slowness; small is heavy-tailed", gt=0)
    down_bytes_per_s: float = option(6e6, "lognormal, pareto: download rate of every client", gt=0)
    up_bytes_per_s: float = option(1.2e6, "lognormal, pareto: upload rate of every client", gt=0)
    latency_s: float = option(0.05, "lognormal, pareto: round-trip latency of one call", ge=0)
    jitter: JitterName = option("lognormal", "distribution of the random factor (mean 1) on compute seconds")
    jitter_scale: float = option(0.1, "lognormal: σ; uniform: half width; exponential: share that is random", ge=0)
    availability: float = option(-1.0, "probability that a client is there in a round; -1: its class's", ge=-1, le=1)
    dropout: float = option(-1.0, "probability that a client is lost during a call; -1: its class's", ge=-1, le=1)
    team_down_bytes_per_s: float = option(0.0, "team servers: download rate; 0: unlimited", ge=0)
    team_up_bytes_per_s: float = option(0.0, "team servers: upload rate; 0: unlimited", ge=0)
    team_latency_s: float = option(0.02, "team servers: round-trip latency to the global server, per global round", ge=0)
    server_down_bytes_per_s: float = option(0.0, "global server: download rate per link; 0: unlimited", ge=0)
    server_up_bytes_per_s: float = option(0.0, "global server: upload rate per link; 0: unlimited", ge=0)
    server_latency_s: float = option(0.0, "global server: seconds it adds to every global round", ge=0)
    mode: Literal["virtual", "sleep"] = option("virtual", "virtual: compute only; sleep: clients also sleep, scaled")
    sleep_scale: float = option(0.01, "sleep: wall seconds per virtual second", gt=0)

    def validate(self, path: str) -> None:
        """What a single bound cannot express."""
        for key in ("availability", "dropout"):
            if -1 < getattr(self, key) < 0:
                raise ConfigError(f"{path}{key}={getattr(self, key):g} is out of range: expected 0 to 1, or -1.")
        if self.jitter in ("uniform", "exponential") and self.jitter_scale > 1:
            raise ConfigError(f"{path}jitter_scale={self.jitter_scale:g} is out of range: expected ≤ 1 for {self.jitter}.")
        if self.name == "trace" and not self.trace:
            raise ConfigError(f"{path}trace: {path}name=trace needs the path of a CSV file.")
        if self.name == "classes":
            _check_mix(self.classes, device_classes(self.devices), path)


@dataclass(frozen=True)
class Profile:
    """Speed and network of one client or server.

    Attributes:
        device: name of its class, for tables.
        flops_per_s: effective speed of training.
        down_bytes_per_s, up_bytes_per_s: rates, maybe infinite.
        latency_s: round trip of one call.
        jitter, jitter_scale: random factor on compute seconds.
        availability: probability of being there in a round.
        dropout: probability of being lost during a call.
    """

    device: str
    flops_per_s: float = UNLIMITED
    down_bytes_per_s: float = UNLIMITED
    up_bytes_per_s: float = UNLIMITED
    latency_s: float = 0.0
    jitter: JitterName = "none"
    jitter_scale: float = 0.0
    availability: float = 1.0
    dropout: float = 0.0


@dataclass(frozen=True)
class Timing:
    """Virtual seconds of one call, by phase; latency counts as download."""

    download_s: float
    compute_s: float
    upload_s: float

    @property
    def total_s(self) -> float:
        """All three."""
        return self.download_s + self.compute_s + self.upload_s


def client_profiles(config: DelayConfig, clients: int, seed: int) -> list[Profile]:
    """One profile per client.

    Raises:
        ConfigError: for an unknown device class or file.
        DataError: for a malformed trace.
    """
    if config.name == "none":
        profiles = [Profile("ideal")] * clients
    elif config.name == "classes":
        profiles = _from_classes(config, clients, seed)
    elif config.name == "trace":
        rows = _read_trace(Path(config.trace))
        profiles = [rows[client % len(rows)] for client in range(clients)]
    else:
        profiles = [_drawn(config, client, seed) for client in range(clients)]
    return [_with_overrides(profile, config) for profile in profiles]


def team_profile(config: DelayConfig) -> Profile:
    """Every team server's link: to its clients and to the global server."""
    rates = _rate(config.team_down_bytes_per_s), _rate(config.team_up_bytes_per_s)
    return Profile("team server", down_bytes_per_s=rates[0], up_bytes_per_s=rates[1], latency_s=config.team_latency_s)


def server_profile(config: DelayConfig) -> Profile:
    """The global server's link."""
    rates = _rate(config.server_down_bytes_per_s), _rate(config.server_up_bytes_per_s)
    return Profile("server", down_bytes_per_s=rates[0], up_bytes_per_s=rates[1], latency_s=config.server_latency_s)


def call_timing(
    profile: Profile,
    parent: Profile,
    *,
    bytes_down: int,
    bytes_up: int,
    flops: int,
    seed: int,
    key: tuple[int, ...],
) -> Timing:
    """Virtual seconds of one client call; ``key`` (round, team round, client) makes the jitter this call's own."""
    factor = _jitter(profile, generator(seed, "jitter", *key))
    return Timing(
        download_s=profile.latency_s + transfer_s(bytes_down, profile.down_bytes_per_s, parent.up_bytes_per_s),
        compute_s=factor * flops / profile.flops_per_s,
        upload_s=transfer_s(bytes_up, profile.up_bytes_per_s, parent.down_bytes_per_s),
    )


def transfer_s(nbytes: int, rate_a: float, rate_b: float) -> float:
    """Seconds a transfer takes at the slower of its two ends."""
    return nbytes / min(rate_a, rate_b)


def available(profile: Profile, seed: int, key: tuple[int, ...]) -> bool:
    """Whether a client can be invited now."""
    return profile.availability >= 1 or bool(generator(seed, "available", *key).random() < profile.availability)


def drops_out(profile: Profile, seed: int, key: tuple[int, ...]) -> float | None:
    """None when the call completes; else the share of its seconds after which the client is lost, U(0, 1)."""
    if profile.dropout <= 0:
        return None
    lost, share = generator(seed, "dropout", *key).random(2)
    return float(share) if lost < profile.dropout else None


def straggling_s(totals: Sequence[float]) -> float:
    """Straggling latency: max − min over the participants' seconds, 0 for fewer than two."""
    return max(totals) - min(totals) if len(totals) > 1 else 0.0


def device_classes(path: str) -> dict[str, Profile]:
    """Named device classes of a YAML file; an empty path means those that ship with Strata.

    Raises:
        ConfigError: when the file cannot be read or a class is malformed.
    """
    try:
        text = Path(path).read_text(encoding="utf8") if path else files("engine").joinpath("devices.yaml").read_text("utf8")
        loaded = yaml.safe_load(text)
        return {str(name): _device(str(name), values) for name, values in loaded.items()}
    except (OSError, yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(f"delays.devices={path}: cannot be read as device classes: {' '.join(str(error).split())}") from None


NUMBERS = ("flops_per_s", "down_bytes_per_s", "up_bytes_per_s", "latency_s", "availability", "dropout")


def _device(name: str, values: Mapping[str, Any]) -> Profile:
    unknown = set(values) - set(NUMBERS) - {"source"}
    if unknown:
        raise ValueError(f"{name}: unknown {', '.join(sorted(unknown))}; known are {', '.join(NUMBERS)}, source")
    return _checked(Profile(name, **{key: float(values[key]) for key in NUMBERS if key in values}), name)


def _checked(profile: Profile, where: str) -> Profile:
    for key in ("flops_per_s", "down_bytes_per_s", "up_bytes_per_s"):
        if not getattr(profile, key) > 0:
            raise ValueError(f"{where}: {key} is {getattr(profile, key)}, expected > 0")
    for key in ("availability", "dropout"):
        if not 0 <= getattr(profile, key) <= 1:
            raise ValueError(f"{where}: {key} is {getattr(profile, key)}, expected 0 to 1")
    if not profile.latency_s >= 0:
        raise ValueError(f"{where}: latency_s is {profile.latency_s}, expected ≥ 0")
    return profile


def _check_mix(mix: Mapping[str, float], known: Mapping[str, Profile], path: str) -> None:
    for name, share in mix.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ConfigError(f"{path}classes.{name}: no such device class.{hint} Found: {', '.join(known)}.")
        if not share >= 0 or math.isinf(share):
            raise ConfigError(f"{path}classes.{name}={share:g} is out of range: expected a share ≥ 0.")
    if not sum(mix.values()) > 0:
        raise ConfigError(f"{path}classes={dict(mix)}: at least one share must be > 0.")


def _from_classes(config: DelayConfig, clients: int, seed: int) -> list[Profile]:
    """The mix, met to within one client per class (largest remainders), dealt at random."""
    known = device_classes(config.devices)
    names = list(config.classes)
    exact = np.array([config.classes[name] for name in names]) / sum(config.classes.values()) * clients
    counts = np.floor(exact).astype(int)
    for index in np.argsort(counts - exact, kind="stable")[: clients - counts.sum()]:
        counts[index] += 1
    dealt = [name for name, count in zip(names, counts, strict=True) for _ in range(count)]
    order = generator(seed, "delays", "classes").permutation(clients)
    return [known[dealt[i]] for i in order]


def _drawn(config: DelayConfig, client: int, seed: int) -> Profile:
    rng = generator(seed, "delays", config.name, client)
    if config.name == "lognormal":
        speed = config.median_flops_per_s * math.exp(config.sigma * rng.standard_normal())
    else:
        speed = config.median_flops_per_s / (1 + rng.pareto(config.shape))
    return Profile(config.name, speed, config.down_bytes_per_s, config.up_bytes_per_s, config.latency_s)


def _read_trace(path: Path) -> list[Profile]:
    try:
        with path.open(newline="", encoding="utf8") as file:
            reader = csv.DictReader(file)
            missing = [key for key in NUMBERS[:4] if key not in (reader.fieldnames or ())]
            if missing:
                raise DataError(f"{path}: line 1: column {', '.join(missing)} is missing.")
            rows = [_trace_row(row, path, reader.line_num) for row in reader]
    except OSError as error:
        raise DataError(f"delays.trace={path}: cannot be read: {error}.") from None
    if not rows:
        raise DataError(f"{path}: no rows below the header.")
    return rows


def _trace_row(row: Mapping[str, str], path: Path, line: int) -> Profile:
    try:
        numbers = {key: float(row[key]) for key in NUMBERS if row.get(key)}
        return _checked(Profile(row.get("device") or "trace", **numbers), "")
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: line {line}: {str(error).removeprefix(': ')}.") from None


def _with_overrides(profile: Profile, config: DelayConfig) -> Profile:
    return replace(
        profile,
        jitter=config.jitter,
        jitter_scale=config.jitter_scale,
        availability=profile.availability if config.availability < 0 else config.availability,
        dropout=profile.dropout if config.dropout < 0 else config.dropout,
    )


def _jitter(profile: Profile, rng: np.random.Generator) -> float:
    scale = profile.jitter_scale
    if profile.jitter == "none" or scale == 0:
        return 1.0
    if profile.jitter == "lognormal":
        return math.exp(scale * rng.standard_normal() - scale**2 / 2)
    if profile.jitter == "uniform":
        return 1 + scale * (2 * rng.random() - 1)
    return 1 - scale + scale * float(rng.exponential())


def _rate(configured: float) -> float:
    return configured or UNLIMITED


