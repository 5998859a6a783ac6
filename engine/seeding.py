"""Derived randomness: every draw is a function of the run's seed and of what it is drawn for.

Nothing in Strata leaves a global generator otherwise than it found it (:func:`strata.engine.determinism.torch_scope`),
so a result cannot depend on the order in which clients run or on the process they run in.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import cast

import numpy as np
from numpy.random.bit_generator import ISeedSequence, SeedSequence
from numpy.typing import NDArray


def derive(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose, e.g. ``derive(seed, "batches", round, client)``.

    Distinct purposes give independent streams: the parts are hashed (BLAKE2b), not added.
    """
    parts = (seed, *purpose)
    text = _text(tuple(map(type, parts))) % parts
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


@lru_cache(maxsize=256)
def _text(kinds: tuple[type, ...]) -> str:
    """The text of parts of these types, for the ``%`` operator: each with the first letter of its type."""
    return "/".join(f"{kind.__name__[0]}%s" for kind in kinds)


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """A numpy generator for one purpose; see :func:`derive`."""
    return np.random.Generator(np.random.PCG64(derive(seed, *purpose)))


def generators(seeds: Sequence[int], *purpose: str | int) -> list[np.random.Generator]:
    """The :func:`generator` of each of some seeds for one purpose, at a tenth of the cost."""
    words = _expanded(np.array([derive(seed, *purpose) for seed in seeds], np.uint64))
    return [np.random.Generator(np.random.PCG64(cast(SeedSequence, _Words(own)))) for own in words]


class _Words(ISeedSequence):
    """What numpy's SeedSequence would make of a seed, made already."""

    def __init__(self, words: NDArray[np.uint64]) -> None:
        self._words = words

    def generate_state(self, n_words: int, dtype: object = np.uint32) -> NDArray[np.uint64]:
        return self._words


def _expanded(seeds: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """What ``SeedSequence(seed).generate_state(4, np.uint64)`` is for each of some seeds, ``(M, 4)``.

    numpy's algorithm (O'Neill, "Developing a seed_seq alternative", 2015), whose results numpy promises to keep.
    """
    pool = np.zeros((4, len(seeds)), np.uint32)
    pool[0], pool[1] = seeds & np.uint64(0xFFFFFFFF), seeds >> np.uint64(32)
    pool = _hashed(pool, *_FILL[:2])
    for source in range(4):
        others = [place for place in range(4) if place != source]
        own = _hashed(pool[source], *_FILL[2 + 2 * source : 4 + 2 * source])
        mixed = pool[others] * np.uint32(0xCA01F9DD) - own * np.uint32(0x4973F715)
        pool[others] = mixed ^ (mixed >> np.uint32(16))
    return np.ascontiguousarray(_hashed(np.concatenate([pool, pool]), *_DRAW).T).view("<u8").astype(np.uint64)


def _hashed(values: NDArray[np.uint32], before: NDArray[np.uint32], after: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Values (M,) or (H, M), row by row with the constants (H, 1) before and after each multiplication."""
    made = (values ^ before) * after
    return made ^ (made >> np.uint32(16))


def _constants(start: int, factor: int, counts: Sequence[int]) -> list[NDArray[np.uint32]]:
    """Of each row of hashes in turn, the constants (H, 1) before and after a multiplication; H are the ``counts``."""
    chain = [start * pow(factor, power, 2**32) % 2**32 for power in range(sum(counts) + 1)]
    firsts = np.cumsum([0, *counts])
    columns = np.array(chain, np.uint32)[:, None]
    return [columns[a + late : a + late + n] for a, n in zip(firsts, counts, strict=False) for late in (0, 1)]


_FILL = _constants(0x43B0D7E5, 0x931E8875, (4, 3, 3, 3, 3))
_DRAW = _constants(0x8B51F9DD, 0x58F38DED, (8,))


def uniform(seed: int, *purpose: str | int, member: int) -> float:
    """One number in (0, 1) for a purpose and one of its members, e.g. a round and a client.

    SplitMix64 (Steele, Lea and Flood, 2014) counted from the purpose's own start: a hundredth of the cost of a
    generator, which matters where thousands of rounds are timed per second. Members are independent of each other.
    """
    mixed = (_start(seed, purpose) + (member + 1) * _GAMMA) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * _FIRST) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * _SECOND) & _MASK
    mixed ^= mixed >> 31
    return ((mixed >> 11) + 0.5) * 2.0**-53


def uniforms(seed: int, *purpose: str | int, members: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float64]:
    """:func:`uniform` for several members at once, ``(M,)``: the same numbers."""
    gamma, first, second, one, *shifts = _COLUMNS
    mixed = np.asarray(members, np.uint64) + one
    mixed *= gamma
    mixed += np.array(_start(seed, purpose), np.uint64)
    mixed ^= mixed >> shifts[0]
    mixed *= first
    mixed ^= mixed >> shifts[1]
    mixed *= second
    mixed ^= mixed >> shifts[2]
    mixed >>= shifts[3]
    return np.asarray((mixed + 0.5) * 2.0**-53)


_MASK, _GAMMA = 2**64 - 1, 0x9E3779B97F4A7C15
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_COLUMNS = tuple(np.array(number, np.uint64) for number in (_GAMMA, _FIRST, _SECOND, 1, 30, 27, 31, 11))
"""The numbers of :func:`uniforms` as arrays, with which numpy reckons in half of the time that its scalars take."""


@lru_cache(maxsize=256)
def _start(seed: int, purpose: tuple[str | int, ...]) -> int:
    return derive(seed, *purpose)
