"""Where a process trains: on the CPU, or on its share of a GPU."""

import ctypes
from contextlib import suppress

import torch

from strata.engine.errors import ResourceError


def resolve_device(requested: str, gpus: float) -> str:
    """Where a process trains: ``auto`` takes CUDA when it was given GPUs (a share suffices) and there is one.

    On CUDA the share is enforced, as the fraction of the GPU's memory that this process may take, and torch is told to
    choose deterministic kernels.

    Raises:
        ResourceError: when CUDA is asked for and not there.
    """
    there = torch.cuda.is_available()
    if requested == "cuda" and not there:
        raise ResourceError("training.device=cuda: torch finds no CUDA device here. Set training.device=auto or cpu.")
    if requested == "cpu" or not there or (requested == "auto" and not gpus):
        return "cpu"
    if 0 < gpus < 1:
        torch.cuda.set_per_process_memory_fraction(gpus)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    return "cuda"


M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # of malloc.h
KEPT = {M_MMAP_THRESHOLD: 32 * 2**20, M_TRIM_THRESHOLD: 512 * 2**20, M_TOP_PAD: 16 * 2**20}


def keep_freed_memory() -> None:
    """Let this process keep memory that it frees, for the next step, instead of giving it back to the system.

    glibc gives tensors of more than 128 KiB back at once, and the system clears each page again when it is next
    touched: a quarter of the time of a small convolutional net's step. Other C libraries are left as they are.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in KEPT.items():
            mallopt(parameter, value)


def give_freed_memory_back() -> None:
    """Let the system have what this process has freed, and glibc keeps; other C libraries are left as they are."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
