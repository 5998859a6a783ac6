"""What becomes of a client's training: its answer, or the error that names client and step."""

import numpy as np
import torch
from numpy.typing import NDArray

from strata.engine.errors import ResourceError, TrainingError
from strata.engine.method.requests import Trained, Work
from strata.engine.params import Params


def trained(params: Params, losses: NDArray[np.float64], work: Work, where: str) -> Trained:
    """The answer to a request for training, whose steps and losses are added to the call's work.

    Args:
        params: after the last step, on the CPU.
        losses: mean loss of each step, ``(S,)``.
        work: of the client's whole call.
        where: who trained, for errors.

    Raises:
        TrainingError: when a loss or a parameter is not finite; it names the step.
    """
    broken = np.flatnonzero(~np.isfinite(losses))
    if len(broken):
        step = int(broken[0])
        raise TrainingError(
            f"{where}: loss is {losses[step]:g} after step {step + 1}. Lower the learning rate or the pull."
        )
    for name, value in params.items():
        if not bool(torch.isfinite(value).all()):
            raise TrainingError(
                f"{where}: parameter {name} is not finite after step {len(losses)}. Lower the learning rate or the "
                "pull."
            )
    total = float(losses.sum())
    work.steps += len(losses)
    work.loss_sum += total
    return Trained(params, total / len(losses) if len(losses) else float("nan"))


def out_of_memory(error: torch.cuda.OutOfMemoryError, where: str) -> ResourceError:
    """What is said when a GPU is too small for what a client asks."""
    return ResourceError(
        f"{where}: out of GPU memory ({str(error).splitlines()[0]}). Raise clients.num_gpus, the share of a GPU that "
        "each client actor may fill, or lower the batch size."
    )
