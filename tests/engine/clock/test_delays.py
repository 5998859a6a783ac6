"""Virtual time: every expected number is worked out beside the test that holds it."""

import itertools
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from strata.engine.clock.config import DelayConfig
from strata.engine.clock.delays import (
    available,
    call_timing,
    drops_out,
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


def test_none_is_instant_and_always_there() -> None:
    profiles = client_profiles(DelayConfig(name="none"), 3, 0)
    assert len(profiles) == 3
    for profile in profiles:
        assert timing(profile).total_s == 0.0
        assert profile.availability == 1
        assert drops_out(profile, 0, (1,)) is None


@pytest.mark.parametrize("clients", [1, 7, 40, 101])
def test_mix_is_met_to_within_one_client(clients: int) -> None:
    mix = {"laptop": 2.0, "phone_mid": 3.0, "edge_server": 1.0, "jetson_nano": 0.0}
    counts = Counter(
        profile.device for profile in client_profiles(DelayConfig(name="classes", classes=mix), clients, 3)
    )
    assert sum(counts.values()) == clients
    assert counts["jetson_nano"] == 0
    for name, share in mix.items():
        assert abs(counts[name] - share / 6.0 * clients) < 1


def test_mix_is_shuffled_by_the_seed_and_not_by_how_it_was_written() -> None:
    mix = {"laptop": 1.0, "edge_server": 1.0}
    profiles = client_profiles(DelayConfig(name="classes", classes=mix), 40, 0)
    written_otherwise = DelayConfig(name="classes", classes=dict(reversed(mix.items())))
    assert client_profiles(written_otherwise, 40, 0) == profiles
    assert client_profiles(DelayConfig(name="classes", classes=mix), 40, 1) != profiles
    changes = sum(a.device != b.device for a, b in itertools.pairwise(profiles))
    assert changes > 5  # in blocks there would be one


@pytest.mark.parametrize("name", ["lognormal", "pareto"])
def test_random_profiles_do_not_depend_on_the_number_of_clients(name: str) -> None:
    config = DelayConfig(name=name)
    many = client_profiles(config, 50, 7)
    assert client_profiles(config, 5, 7) == many[:5]
    assert client_profiles(config, 50, 8) != many
    assert len({profile.flops_per_s for profile in many}) == 50


def test_lognormal_speeds_have_the_median_and_sigma_asked_for() -> None:
    config = DelayConfig(name="lognormal", median_flops_per_s=2e9, sigma=0.6)
    logs = np.log([profile.flops_per_s for profile in client_profiles(config, 4000, 0)])
    assert np.median(logs) == pytest.approx(math.log(2e9), abs=4 * 1.2533 * 0.6 / math.sqrt(4000))
    assert logs.std() == pytest.approx(0.6, rel=0.06)


def test_pareto_seconds_have_the_median_and_the_tail_asked_for() -> None:
    shape, clients = 1.5, 4000
    config = DelayConfig(name="pareto", median_flops_per_s=2e9, shape=shape)
    seconds = np.array([1 / profile.flops_per_s for profile in client_profiles(config, clients, 0)])
    assert np.median(seconds) == pytest.approx(1 / 2e9, rel=0.05)
    # The median of a Pareto variable of minimum m is m · 2^(1/shape); log(x/m) is exponential with mean 1/shape.
    fastest = 1 / 2e9 / 2 ** (1 / shape)
    assert seconds.min() >= fastest * (1 - 1e-12)
    assert np.log(seconds / fastest).mean() == pytest.approx(1 / shape, rel=4 / math.sqrt(clients))


def test_rates_and_latency_of_random_profiles_are_those_configured() -> None:
    config = DelayConfig(name="lognormal", down_bytes_per_s=3e6, up_bytes_per_s=1e6, latency_s=0.1, sigma=0.0)
    profile = client_profiles(config, 1, 0)[0]
    assert (profile.down_bytes_per_s, profile.up_bytes_per_s, profile.latency_s) == (3e6, 1e6, 0.1)
    assert profile.flops_per_s == config.median_flops_per_s


def test_jitter_availability_and_dropout_of_the_configuration_reach_every_profile() -> None:
    config = DelayConfig(name="pareto", jitter="uniform", jitter_scale=0.4, availability=0.5, dropout=0.25)
    for profile in client_profiles(config, 3, 0):
        assert (profile.jitter, profile.jitter_scale) == ("uniform", 0.4)
        assert (profile.availability, profile.dropout) == (0.5, 0.25)


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
