"""Derived randomness: every draw is a function of the run's seed and of what it is drawn for.

Nothing in Strata leaves a global generator otherwise than it found it (:func:`strata.engine.determinism.torch_scope`),
so a result cannot depend on the order in which clients run or on the process they run in.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


def derive(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose, e.g. ``derive(seed, "batches", round, client)``.

    Distinct purposes give independent streams: the parts are hashed (BLAKE2b), not added.
    """
    text = "/".join(f"{type(part).__name__[0]}{part}" for part in (seed, *purpose))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """A numpy generator for one purpose; see :func:`derive`."""
    return np.random.Generator(np.random.PCG64(derive(seed, *purpose)))


def uniform(seed: int, *purpose: str | int, member: int) -> float:
    """One number in (0, 1) for a purpose and one of its members, e.g. a round and a client.

    SplitMix64 (Steele, Lea and Flood, 2014) counted from the purpose's own start: a hundredth of the cost of a
    generator, which matters where thousands of rounds are timed per second. Members are independent of each other.
    """
    mixed = (_start(seed, purpose) + (member + 1) * _GAMMA) & _MASK
    for shift, factor in _MIX:
        mixed = ((mixed ^ (mixed >> shift)) * factor) & _MASK
    mixed ^= mixed >> 31
    return ((mixed >> 11) + 0.5) * 2.0**-53


def uniforms(seed: int, *purpose: str | int, members: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float64]:
    """:func:`uniform` for several members at once, ``(M,)``: the same numbers."""
    mixed = np.uint64(_start(seed, purpose)) + (np.asarray(members, np.uint64) + np.uint64(1)) * np.uint64(_GAMMA)
    for shift, factor in _MIX:
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return np.asarray(((mixed >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53)


_MASK, _GAMMA = 2**64 - 1, 0x9E3779B97F4A7C15
_MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


@lru_cache(maxsize=256)
def _start(seed: int, purpose: tuple[str | int, ...]) -> int:
    return derive(seed, *purpose)
