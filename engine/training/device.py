"""Where a process trains: on the CPU, or on its share of a GPU."""

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
