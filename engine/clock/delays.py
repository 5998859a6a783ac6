"""The virtual clock: how long a call takes, whether a client is there, and whether it is lost on the way.

Time is computed from counted bytes and FLOPs, never measured::

    seconds = latency + bytes_down / rate_down + jitter · FLOPs / speed + bytes_up / rate_up

A rate is the smaller of the two ends'; a server's holds for each of its children, unless they share it
(:mod:`strata.engine.clock.shared_links`). Jitter is a random factor of mean 1. Every draw derives from the run's seed
and a key (round, team round, client), so it depends neither on the order of the calls nor on the process they run in.
Units: seconds, bytes per second, FLOP/s.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from strata.engine.clock.config import DelayConfig
from strata.engine.clock.devices import Profile, device_classes
from strata.engine.seeding import uniform, uniforms

__all__ = [
    "DelayConfig",
    "Profile",
    "Timing",
    "available",
    "call_timing",
    "drops_out",
    "is_due",
    "jitter_factor",
    "server_profile",
    "straggling_s",
    "team_profile",
    "transfer_s",
]

Key = tuple[int, ...]
"""What a draw is for: round, team round, client."""

NORMAL = NormalDist()


class Timing(NamedTuple):
    """Virtual seconds of one call, by phase."""

    latency_s: float
    download_s: float
    compute_s: float
    upload_s: float

    @property
    def total_s(self) -> float:
        """Virtual seconds of the whole call, all phases."""
        return self.latency_s + self.download_s + self.compute_s + self.upload_s

    def cut(self, seconds: float) -> "Timing":
        """The part of a call that had happened when its client was lost, after ``seconds`` of its ``total_s``."""
        latency = min(self.latency_s, seconds)
        download = min(self.download_s, seconds - latency)
        compute = min(self.compute_s, seconds - latency - download)
        return Timing(latency, download, compute, seconds - latency - download - compute)


def team_profile(config: DelayConfig) -> Profile:
    """The link of every team server: rates to clients and to the global server, and its latency to the latter."""
    rates = _rate(config.team_down_bytes_per_s), _rate(config.team_up_bytes_per_s)
    speed = _speed(config, config.team_device)
    return Profile("team server", speed, *rates, latency_s=config.team_latency_s)


def server_profile(config: DelayConfig) -> Profile:
    """The link of the global server: rates to each of its children, and the seconds that it adds to every round."""
    rates = _rate(config.server_down_bytes_per_s), _rate(config.server_up_bytes_per_s)
    return Profile("server", _speed(config, config.server_device), *rates, latency_s=config.server_latency_s)


def call_timing(
    profile: Profile, parent: Profile, bytes_down: int, bytes_up: int, flops: float, seed: int, key: Key
) -> Timing:
    """Virtual seconds of one client call, by phase.

    Args:
        profile: of the client.
        parent: of the server that it talks to; a rate is the smaller of the two ends'.
        bytes_down: that the client receives.
        bytes_up: that it sends.
        flops: that it computes.
        seed: of the run.
        key: round, team round and client, by which the jitter is this call's own.
    """
    return Timing(
        profile.latency_s,
        transfer_s(bytes_down, profile.down_bytes_per_s, parent.up_bytes_per_s),
        jitter_factor(profile, seed, key) * flops / profile.flops_per_s,
        transfer_s(bytes_up, profile.up_bytes_per_s, parent.down_bytes_per_s),
    )


def transfer_s(nbytes: int, rate_a: float, rate_b: float) -> float:
    """Seconds that ``nbytes`` bytes take at the lower of two rates, in bytes per second, which may be infinite."""
    return nbytes / (rate_a if rate_a < rate_b else rate_b)  # as min, in half of its time


def available(
    availability: NDArray[np.float64], clients: Sequence[int] | NDArray[np.int64], seed: int, when: Key
) -> NDArray[np.int64]:
    """Which of some clients can be invited now: ids, in the order given.

    Args:
        availability: probability of every client of the run, by id, ``(N,)``.
        clients: ids of those asked about.
        seed: of the run.
        when: the round, and the team round.
    """
    members = np.asarray(clients, np.int64)
    return members[uniforms(seed, "available", *when, members=members) < availability[members]]


def drops_out(profile: Profile, seed: int, key: Key) -> float | None:
    """None when the call completes; else the share of its seconds after which the client is lost, U(0, 1)."""
    if profile.dropout <= 0:
        return None
    *when, client = key
    lost = uniform(seed, "dropout", *when, member=client)
    return uniform(seed, "dropout after", *when, member=client) if lost < profile.dropout else None


def is_due(every_s: float, before_s: float, now_s: float) -> bool:
    """Whether a multiple of some virtual seconds lies in (before, now]; never for 0."""
    return every_s > 0 and now_s // every_s > before_s // every_s


def straggling_s(totals: Sequence[float]) -> float:
    """Straggling latency: max − min over the participants' seconds, 0 for fewer than two."""
    return max(totals) - min(totals) if len(totals) > 1 else 0.0


def jitter_factor(profile: Profile, seed: int, key: Key) -> float:
    """Draw the factor on the time of computing of one call: ≥ 0, and of mean 1.

    With s the profile's ``jitter_scale``: ``lognormal`` exp(s·z − s²/2) with z ~ N(0, 1); ``uniform`` on
    [1 − s, 1 + s]; ``exponential`` 1 − s + s·Exp(1).
    """
    scale = profile.jitter_scale
    if profile.jitter == "none" or scale == 0:
        return 1.0
    u = uniform(seed, "jitter", *key[:-1], member=key[-1])
    if profile.jitter == "lognormal":
        return math.exp(scale * NORMAL.inv_cdf(u) - scale**2 / 2)
    if profile.jitter == "uniform":
        return 1 + scale * (2 * u - 1)
    return 1 - scale - scale * math.log(u)


def _speed(config: DelayConfig, device: str) -> float:
    """FLOP/s of a server that computes: those of its device class, or infinitely many."""
    return device_classes(config.devices)[device].flops_per_s if device else math.inf


def _rate(configured: float) -> float:
    return configured or math.inf
