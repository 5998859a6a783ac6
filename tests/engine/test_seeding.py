"""Numbers counted from a purpose: the same one by one and all at once, uniform, independent."""

import hashlib

import numpy as np
import pytest
from scipy import stats

from strata.engine.seeding import derive, generator, generators, uniform, uniforms

N = 20_000
MEMBERS = range(N)


def splitmix64(state):
    """Steele, Lea and Flood's ``nextSeed`` and ``mix64`` as printed, with Stafford's constants (variant 13)."""
    mask = 2**64 - 1
    while True:
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        yield z ^ (z >> 31)


def test_one_by_one_and_all_at_once_are_splitmix64_from_the_purposes_own_start():
    drawn = uniforms(7, "available", 3, 1, members=range(100))
    assert drawn.tolist() == [uniform(7, "available", 3, 1, member=m) for m in range(100)]
    stream = splitmix64(derive(7, "available", 3, 1))
    assert drawn.tolist() == [((next(stream) >> 11) + 0.5) / 2**53 for _ in range(100)]
    assert uniforms(7, "available", 3, 1, members=[40, 2]).tolist() == drawn[[40, 2]].tolist()
    assert uniforms(7, "available", 3, 1, members=[]).shape == (0,)


def test_published_values_of_splitmix64():
    # The first outputs for the seed 1234567, as listed by Vigna's reference implementation.
    stream = splitmix64(1234567)
    assert [next(stream) for _ in range(3)] == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_they_are_uniform():
    drawn = uniforms(0, "jitter", 5, members=MEMBERS)
    assert 0 < drawn.min() < drawn.max() < 1
    assert stats.kstest(drawn, "uniform").pvalue > 0.01
    # Moments of U(0, 1), within four standard errors.
    for power in (1, 2, 3):
        mean, variance = 1 / (power + 1), 1 / (2 * power + 1) - 1 / (power + 1) ** 2
        assert abs((drawn**power).mean() - mean) < 4 * np.sqrt(variance / N)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("jitter", 5, 1), ("jitter", 6, 1)),  # rounds
        (("jitter", 5, 1), ("jitter", 5, 2)),  # team rounds
        (("dropout", 5, 1), ("dropout after", 5, 1)),  # purposes
        (("available", 11), ("available", 1, 1)),  # what would coincide without a separator
    ],
)
def test_purposes_are_independent_of_each_other(one, other):
    x, y = (uniforms(3, *purpose, members=MEMBERS) for purpose in (one, other))
    assert len(np.intersect1d(x, y)) == 0
    assert abs(np.corrcoef(x, y)[0, 1]) < 4 / np.sqrt(N)
    table = np.histogram2d(x, y, bins=8)[0]
    assert stats.chisquare(table.ravel()).pvalue > 0.01


def test_members_and_seeds_are_independent_of_each_other():
    drawn = uniforms(3, "jitter", 1, members=MEMBERS)
    for lag in (1, 2, 10):
        assert abs(np.corrcoef(drawn[:-lag], drawn[lag:])[0, 1]) < 4 / np.sqrt(N)
    other = uniforms(4, "jitter", 1, members=MEMBERS)
    assert abs(np.corrcoef(drawn, other)[0, 1]) < 4 / np.sqrt(N)
    # One client over rounds, which is what a client's life is made of.
    rounds = np.array([uniform(3, "jitter", t, 1, member=17) for t in range(2000)])
    assert stats.kstest(rounds, "uniform").pvalue > 0.01
    assert abs(np.corrcoef(rounds[:-1], rounds[1:])[0, 1]) < 4 / np.sqrt(2000)


def test_parts_of_a_purpose_are_told_apart_by_kind_and_place():
    seeds = [derive(1, *p) for p in [("a", 1), ("a", "1"), ("a1",), (1, "a"), ("a", 1, 0), ("a", -1)]]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive(1, "a", np.int64(5)) == derive(1, "a", 5)  # ids come as numpy's integers, too
    assert generator(1, "a").random() == generator(1, "a").random() != generator(2, "a").random()


@pytest.mark.parametrize("purpose", [("batches",), ("cohort", 3, 1)])
def test_generators_are_numpys_for_each_seed(purpose):
    seeds = [0, 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, *(derive(0, "seed", member) for member in range(50))]
    for seed, made in zip(seeds, generators(seeds, *purpose), strict=True):
        own = np.random.PCG64(np.random.SeedSequence(derive(seed, *purpose)))
        assert made.bit_generator.state == own.state
        assert made.permutation(9).tolist() == generator(seed, *purpose).permutation(9).tolist()
    assert generators([], *purpose) == []


def test_a_seed_is_the_hash_of_the_parts_each_with_the_letter_of_its_type():
    text = b"i5/sstep/i3/i-1/s%s"
    digest = hashlib.blake2b(text, digest_size=8).digest()
    assert derive(5, "step", 3, -1, "%s") == int.from_bytes(digest, "big") // 2
    assert derive(5, "1") != derive(5, 1)
