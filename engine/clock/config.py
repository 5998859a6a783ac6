"""The ``delays`` part of the configuration."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from strata.engine.clock.devices import JitterName, Profile, device_classes
from strata.engine.errors import ConfigError
from strata.engine.options import Validated, option
from strata.engine.suggest import closest

DEFAULT_MIX = {"phone_budget": 0.3, "phone_mid": 0.3, "phone_flagship": 0.15, "raspberry_pi_4": 0.1, "laptop": 0.15}


@dataclass(frozen=True)
class DelayConfig(Validated):
    """The group ``delays``: speeds and networks of the clients, links of the servers, and what the clock does."""

    name: Literal["none", "classes", "lognormal", "pareto", "loguniform", "trace", "given"] = option(
        "classes",
        "none (infinitely fast), classes (a mix of named devices), lognormal, pareto or loguniform (speeds drawn), "
        "trace (a CSV), given (in Python)",
    )
    classes: dict[str, float] = option(
        DEFAULT_MIX, "classes: shares of named device classes, e.g. {laptop: 1, phone_mid: 3}"
    )
    devices: str = option("", "classes: a YAML file of your own device classes; empty: the shipped ones")
    trace: str = option(
        "",
        "trace: CSV with the columns client,flops_per_s,down_bytes_per_s,up_bytes_per_s,latency_s and maybe "
        "availability,dropout,device; its rows are used again where there are more clients",
    )
    median_flops_per_s: float = option(1e10, "drawn speeds: FLOP/s of the median client", gt=0)
    spread: float = option(10.0, "loguniform: speed of the fastest over that of the slowest client", ge=1)
    sigma: float = option(0.7, "lognormal: standard deviation of the logarithm of the speed", ge=0, le=50)
    shape: float = option(1.5, "pareto: tail index of the seconds per FLOP; small is heavy-tailed", gt=0)
    cap: float = option(0.0, "pareto: nobody takes more than so many times the median per FLOP; 0: no limit", ge=0)
    down_bytes_per_s: float = option(6e6, "drawn speeds: download rate of every client", gt=0)
    up_bytes_per_s: float = option(1.2e6, "drawn speeds: upload rate of every client", gt=0)
    latency_s: float = option(0.05, "drawn speeds: round-trip latency of one call", ge=0)
    jitter: JitterName = option("lognormal", "distribution of the random factor (mean 1) on compute seconds")
    jitter_scale: float = option(
        0.1, "lognormal: σ; uniform: half width; exponential: share that is random", ge=0, le=10
    )
    availability: float = option(-1.0, "probability that a client is there in a round; -1: its class's", ge=-1, le=1)
    availability_trace: str = option(
        "",
        "CSV with the columns client,on_s,off_s, in virtual seconds, several lines a client: who is there when, beside "
        "the probability; who goes off during a call is lost then. Its clients are used again where there are more",
    )
    availability_period_s: float = option(
        0.0,
        "availability_trace: seconds after which it repeats; 0: it does not",
        ge=0,
    )
    dropout: float = option(-1.0, "probability that a client is lost during a call; -1: its class's", ge=-1, le=1)
    team_down_bytes_per_s: float = option(0.0, "team servers: download rate; 0: unlimited", ge=0)
    team_up_bytes_per_s: float = option(0.0, "team servers: upload rate; 0: unlimited", ge=0)
    team_latency_s: float = option(
        0.02, "team servers: round-trip latency to the global server, per global round", ge=0
    )
    server_down_bytes_per_s: float = option(0.0, "global server: download rate per link; 0: unlimited", ge=0)
    server_up_bytes_per_s: float = option(0.0, "global server: upload rate per link; 0: unlimited", ge=0)
    server_latency_s: float = option(0.0, "global server: seconds it adds to every global round", ge=0)
    server_device: str = option(
        "", "global server: device class whose speed its own computing takes; empty: it takes no virtual seconds"
    )
    team_device: str = option("", "team servers: the same")
    server_links: Literal["each", "shared"] = option(
        "each",
        "global server: each client, or in a method with teams each team, has its rates, or concurrent transfers share "
        "them",
    )
    team_links: Literal["each", "shared"] = option(
        "each", "team servers: the same, for the transfers between a team and its clients"
    )
    mode: Literal["virtual", "sleep"] = option("virtual", "virtual: compute only; sleep: clients also sleep, scaled")
    sleep_scale: float = option(0.01, "sleep: wall seconds per virtual second", gt=0)

    def validate(self, path: str) -> None:
        """Check the probabilities, the jitter, and what the chosen kind of profiles needs; ``path`` prefixes the keys.

        Raises:
            ConfigError: naming the key, its value and what was expected.
        """
        for key in ("availability", "dropout"):
            if -1 < getattr(self, key) < 0:
                raise ConfigError(f"{path}{key}={getattr(self, key):g} is out of range: expected 0 to 1, or -1.")
        if self.jitter in ("uniform", "exponential") and self.jitter_scale > 1:
            raise ConfigError(
                f"{path}jitter_scale={self.jitter_scale:g} is out of range: expected ≤ 1 for jitter={self.jitter}."
            )
        if self.availability_period_s and not self.availability_trace:
            raise ConfigError(
                f"{path}availability_period_s={self.availability_period_s:g}: there is nothing that repeats. Name "
                f"a CSV file as {path}availability_trace, or leave it 0."
            )
        self._check_links(path)
        known = device_classes(self.devices) if self.server_device or self.team_device else {}
        for key in ("server_device", "team_device"):
            if (name := getattr(self, key)) and name not in known:
                raise ConfigError(
                    f"{path}{key}={name}: no such device class.{closest(name, list(known))} Found: {', '.join(known)}."
                )
        if self.name == "trace" and not self.trace:
            raise ConfigError(f"{path}trace: {path}name=trace needs the path of a CSV file.")
        if self.name == "classes":
            check_mix(self.classes, device_classes(self.devices), path)

    def _check_links(self, path: str) -> None:
        for server in ("server", "team"):
            if getattr(self, f"{server}_links") != "shared":
                continue
            rates = [f"{server}_{way}_bytes_per_s" for way in ("down", "up")]
            if not any(getattr(self, rate) for rate in rates):
                raise ConfigError(
                    f"{path}{server}_links=shared: both rates are unlimited, and there is nothing to share. Set "
                    f"{path}{rates[0]} or {path}{rates[1]}, or leave it at each."
                )


def check_mix(mix: Mapping[str, float], known: Mapping[str, Profile], path: str) -> None:
    """Refuse shares of unknown device classes, negative or infinite ones, and a mix without any.

    Args:
        mix: share of the clients by device class; in sum they may be anything > 0.
        known: profiles by device class.
        path: prefixes the keys in errors.

    Raises:
        ConfigError: naming the class, its share and what was expected.
    """
    for name, share in mix.items():
        if name not in known:
            raise ConfigError(
                f"{path}classes.{name}: no such device class.{closest(name, list(known))} Found: {', '.join(known)}."
            )
        if not share >= 0 or math.isinf(share):
            raise ConfigError(f"{path}classes.{name}={share:g} is out of range: expected a share ≥ 0.")
    if not sum(mix.values()) > 0:
        raise ConfigError(f"{path}classes={dict(mix)}: at least one share must be > 0.")
