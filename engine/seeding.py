"""Derived randomness: every draw is a function of the run's seed and of what it is drawn for.

Nothing in Strata reads or sets a global generator, so a result cannot depend on the order in which clients run or on
the process they run in.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose, e.g. ``derive(seed, "batches", round, client)``.

    Distinct purposes give independent streams: the parts are hashed (BLAKE2b), not added.
    """
    text = "/".join(f"{type(part).__name__[0]}{part}" for part in (seed, *purpose))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """A numpy generator for one purpose; see :func:`derive`."""
    return np.random.Generator(np.random.PCG64(derive(seed, *purpose)))


@contextmanager
def torch_scope(seed: int) -> Iterator[None]:
    """Give code that only knows torch's global generator (layer initialisation, dropout) a derived one, and restore it.

    The one place that touches a global generator. On CUDA the devices' generators are set and restored as well.
    """
    # By hand, because torch.random.fork_rng takes sixty times as long, which every client call would pay.
    cuda = torch.cuda.is_initialized()
    before = torch.get_rng_state(), torch.cuda.get_rng_state_all() if cuda else []
    torch.default_generator.manual_seed(seed)
    if cuda:
        torch.cuda.manual_seed_all(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before[0])
        if cuda:
            torch.cuda.set_rng_state_all(before[1])
