"""Which profile each client has: every expected number is worked out beside the test that holds it."""

import itertools
import math
import pickle
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from strata.engine.clock.config import DelayConfig
from strata.engine.clock.delays import call_timing, drops_out
from strata.engine.clock.devices import Profile
from strata.engine.clock.profiles import Profiles, client_profiles


def test_none_is_instant_and_always_there() -> None:
    profiles = client_profiles(DelayConfig(name="none"), 3, 0)
    assert len(profiles) == 3
    for profile in profiles:
        instant = call_timing(profile, Profile("fast"), bytes_down=10, bytes_up=10, flops=3e9, seed=0, key=(1, 1, 0))
        assert instant.total_s == 0.0
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


def test_nobody_is_slower_than_the_cap_and_whoever_was_not_stays_as_it_was() -> None:
    free = client_profiles(DelayConfig(name="pareto", shape=1.0, median_flops_per_s=2e9), 200, 0)
    capped = client_profiles(DelayConfig(name="pareto", shape=1.0, median_flops_per_s=2e9, cap=4.0), 200, 0)
    slowest = 2e9 / 4
    assert sum(one.flops_per_s < slowest for one in free) > 10  # of 200 · 1/8, as P(slowness > 4 medians) = 1/(2 · 4)
    assert [one.flops_per_s for one in capped] == [max(one.flops_per_s, slowest) for one in free]


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


ONE, TWO = Profile("one", availability=0.5), Profile("two", flops_per_s=3.0)


def test_profiles_that_are_objects_become_kinds_and_a_column():
    made = Profiles.of([TWO, ONE, TWO, TWO])
    assert made.kinds == (TWO, ONE)
    assert made.kind_of.tolist() == [0, 1, 0, 0]
    assert list(made) == [TWO, ONE, TWO, TWO]
    assert Profiles.of(made) is made
    assert made.availability.tolist() == [1.0, 0.5, 1.0, 1.0]
    assert made.devices == {"one", "two"}
    assert not made.always_there
    assert Profiles.of([TWO, TWO]).always_there


@pytest.mark.parametrize("name", ["classes", "pareto", "none"])
def test_profiles_travel_and_stay_the_same(name):
    made = client_profiles(DelayConfig(name=name), 30, 5)
    there = pickle.loads(pickle.dumps(made))
    assert there == made
    assert there.fingerprint == made.fingerprint


@pytest.mark.parametrize(
    "change", [{"jitter_scale": 0.3}, {"median_flops_per_s": 1e9}, {"shape": 1.6}, {"name": "lognormal"}], ids=str
)
def test_other_profiles_have_another_fingerprint(change):
    config = DelayConfig(name="pareto")
    prints = [client_profiles(c, n, s).fingerprint for c, n, s in ((config, 5, 0), (config, 6, 0), (config, 5, 1))]
    prints.append(client_profiles(replace(config, **change), 5, 0).fingerprint)
    assert len(set(prints)) == 4


def test_a_million_profiles_are_a_column():
    made = client_profiles(DelayConfig(name="classes"), 1_000_000, 0)
    assert made.kind_of.nbytes == 4_000_000
    assert len(made.kinds) == 5
    assert made[999_999].device in made.devices
