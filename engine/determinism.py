"""What torch keeps per process and would let into results: the number of its threads, and its global generator.

Everything here restores what it changes. The engine applies it around the models' and the methods' code, so that
neither needs to know.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def single_thread() -> Iterator[None]:
    """One torch thread for the calling thread: the split of a sum over threads would change its bits."""
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
