"""Virtual time: every expected number is worked out beside the test that holds it."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from strata.engine.clock.config import DelayConfig
from strata.engine.clock.delays import (
    available,
    call_timing,
    drops_out,
    is_due,
    server_profile,
    straggling_s,
    team_profile,
    transfer_s,
)
from strata.engine.clock.devices import Profile
from strata.engine.clock.profiles import client_profiles
from strata.engine.errors import ConfigError
from strata.engine.options import check

SLOW = Profile("slow", flops_per_s=1e9, down_bytes_per_s=1000.0, up_bytes_per_s=500.0, latency_s=0.25)
FAST = Profile("fast")


def timing(profile: Profile, parent: Profile = FAST, flops: float = 3e9, key: tuple[int, ...] = (1, 1, 0)):
    return call_timing(profile, parent, bytes_down=2000, bytes_up=4000, flops=flops, seed=0, key=key)


def jitters(name: str, scale: float, n: int = 4000) -> np.ndarray:
    profile = replace(SLOW, jitter=name, jitter_scale=scale)
    # 1e9 FLOPs at 1e9 FLOP/s take one second, so the seconds are the factor.
    return np.array([timing(profile, flops=1e9, key=(i,)).compute_s for i in range(n)])


def test_call_takes_latency_plus_transfers_plus_computing() -> None:
    result = timing(SLOW)
    assert result.latency_s == 0.25
    assert result.download_s == 2000 / 1000
    assert result.compute_s == 3e9 / 1e9
    assert result.upload_s == 4000 / 500
    assert result.total_s == 2.25 + 3.0 + 8.0


def test_slower_end_of_a_link_counts_and_directions_are_not_confused() -> None:
    parent = Profile("server", down_bytes_per_s=100.0, up_bytes_per_s=200.0)
    result = timing(SLOW, parent)
    assert result.download_s == 2000 / 200  # what the client receives, the parent sends
    assert result.upload_s == 4000 / 100
    assert transfer_s(600, 300.0, 200.0) == transfer_s(600, 200.0, 300.0) == 3.0


def test_infinite_rates_and_speed_take_no_time() -> None:
    assert timing(FAST).total_s == 0.0
    assert transfer_s(10**9, math.inf, math.inf) == 0.0


@pytest.mark.parametrize(
    ("name", "scale", "deviation"),
    [
        ("lognormal", 0.5, math.sqrt(math.exp(0.5**2) - 1)),
        ("uniform", 0.5, 0.5 / math.sqrt(3)),
        ("exponential", 0.5, 0.5),
    ],
)
def test_jitter_has_mean_one_and_the_deviation_of_its_distribution(name: str, scale: float, deviation: float) -> None:
    factors = jitters(name, scale)
    assert factors.mean() == pytest.approx(1.0, abs=4 * deviation / math.sqrt(len(factors)))
    assert factors.std() == pytest.approx(deviation, rel=0.1)


def test_jitter_stays_in_its_range() -> None:
    uniform, exponential = jitters("uniform", 0.3), jitters("exponential", 0.3)
    assert uniform.min() >= 0.7
    assert uniform.max() <= 1.3
    assert exponential.min() >= 0.7
    assert (jitters("lognormal", 2.0, 200) > 0).all()
    assert set(jitters("none", 0.3, 20)) == {1.0}
    assert set(jitters("lognormal", 0.0, 20)) == {1.0}


def test_jitter_is_a_function_of_seed_and_key_only() -> None:
    profile = replace(SLOW, jitter="lognormal", jitter_scale=0.5)
    keys = [(1, 1, c) for c in range(20)]
    forwards = {key: timing(profile, key=key) for key in keys}
    backwards = {key: timing(profile, key=key) for key in reversed(keys)}
    assert forwards == backwards
    assert len({result.compute_s for result in forwards.values()}) == 20


def test_availability_probability() -> None:
    chances = np.array([0.3, 0.0, 1.0])
    drawn = [available(chances, [0, 1, 2], 5, (round, 1)) for round in range(4000)]
    assert np.mean([0 in there for there in drawn]) == pytest.approx(0.3, abs=4 * math.sqrt(0.3 * 0.7 / 4000))
    assert not any(1 in there for there in drawn)
    assert all(2 in there for there in drawn)


def test_availability_does_not_depend_on_who_else_is_asked_about() -> None:
    chances = np.full(20, 0.5)
    together = available(chances, range(20), 5, (3, 1))
    assert together.tolist() == [client for client in range(20) if len(available(chances, [client], 5, (3, 1)))]
    assert 0 < len(together) < 20


def test_dropout_probability_and_when_it_happens() -> None:
    profile = replace(FAST, dropout=0.25)
    drawn = [drops_out(profile, 5, (round, 1, 2)) for round in range(4000)]
    lost = np.array([share for share in drawn if share is not None])
    assert len(lost) / 4000 == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / 4000))
    assert lost.min() >= 0
    assert lost.max() < 1
    # Uniform and independent of whether it is lost: mean 1/2, standard deviation 1/√12.
    assert lost.mean() == pytest.approx(0.5, abs=4 / math.sqrt(12 * len(lost)))
    assert drawn == [drops_out(profile, 5, (round, 1, 2)) for round in range(4000)]


def test_straggling_is_slowest_minus_fastest() -> None:
    assert straggling_s([3.0, 1.0, 2.5]) == 2.0
    assert straggling_s([3.0]) == straggling_s([]) == 0.0


def test_rate_zero_of_a_server_is_unlimited() -> None:
    config = DelayConfig(team_up_bytes_per_s=7.0, team_latency_s=0.5, server_down_bytes_per_s=9.0, server_latency_s=0.1)
    team, server = team_profile(config), server_profile(config)
    assert (team.down_bytes_per_s, team.up_bytes_per_s, team.latency_s) == (math.inf, 7.0, 0.5)
    assert (server.down_bytes_per_s, server.up_bytes_per_s, server.latency_s) == (9.0, math.inf, 0.1)


def test_defaults_are_valid() -> None:
    for name in ("none", "classes", "lognormal", "pareto"):
        check(DelayConfig(name=name), "delays.")
        assert len(client_profiles(DelayConfig(name=name), 4, 0)) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"name": "classes", "classes": {"laptob": 1.0}},
            r"delays\.classes\.laptob: .*Did you mean laptop\?.*edge_server",
        ),
        ({"name": "classes", "classes": {"laptop": -1.0}}, r"delays\.classes\.laptop=-1 is out of range"),
        ({"name": "classes", "classes": {"laptop": 0.0}}, "at least one share"),
        ({"name": "classes", "classes": {}}, "at least one share"),
        ({"name": "classes", "devices": "no/such.yaml"}, r"no/such\.yaml.*cannot be read"),
        ({"name": "trace"}, "needs the path of a CSV file"),
        ({"availability": -0.5}, r"delays\.availability=-0\.5 is out of range"),
        ({"dropout": 1.5}, r"delays\.dropout=1\.5 is out of range"),
        ({"jitter": "uniform", "jitter_scale": 1.5}, r"delays\.jitter_scale=1\.5 is out of range"),
        ({"jitter": "exponential", "jitter_scale": 1.5}, r"delays\.jitter_scale=1\.5 is out of range"),
        ({"mode": "sleep", "sleep_scale": 0.0}, r"delays\.sleep_scale=0 is out of range"),
        ({"median_flops_per_s": 0.0}, r"delays\.median_flops_per_s=0 is out of range"),
    ],
)
def test_impossible_configuration_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(DelayConfig(**changes), "delays.")


def test_sleeping_changes_no_profile_and_a_wide_lognormal_is_allowed() -> None:
    sleeping = DelayConfig(name="lognormal", mode="sleep", sleep_scale=0.01, jitter="lognormal", jitter_scale=1.5)
    check(sleeping, "delays.")
    assert client_profiles(sleeping, 5, 0) == client_profiles(replace(sleeping, mode="virtual"), 5, 0)


def test_something_is_due_when_a_multiple_of_its_seconds_has_passed():
    ends = [0.0, 1.5, 2.0, 2.5, 3.9, 8.1, 9.9]
    due = [is_due(2.0, before, now) for before, now in pairwise(ends)]
    assert due == [False, True, False, False, True, False]  # at 2, and from 3.9 to 8.1 at 4, 6 and 8 alike
    assert not is_due(0.0, 1.0, 99.0)
