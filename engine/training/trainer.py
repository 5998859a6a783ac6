"""What a trainer is: it answers the requests of :mod:`strata.engine.method.requests`, of several clients at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from strata.engine.data.dataset import IntArray
from strata.engine.errors import ResourceError, StrataError, TrainingError
from strata.engine.method.requests import Answer, MeanGradient, Request, Trained, Work
from strata.engine.params import Params


@dataclass(frozen=True)
class Asked:
    """One request of one client.

    Attributes:
        request: what is asked for.
        rows: of the client's data that it is about, ``(n,)``.
        seed: this request's own.
        where: who asks, for errors, e.g. ``client 3 (team 1), round 7``.
        work: of the client's whole call, to which the answer adds.
    """

    request: Request
    rows: IntArray
    seed: int
    where: str
    work: Work


@dataclass(frozen=True)
class Broken:
    """What came of a request, or of a whole conversation, that broke: its error, kept so that others can go on."""

    error: StrataError


class Trainer(Protocol):
    """What answers the requests of methods, of several clients at once."""

    def answer(self, asked: Sequence[Asked]) -> Sequence[Answer | Broken]:
        """One answer for each request, in their order; no two of them are of the same client call."""


def trained(params: Params, infinite: Sequence[str], losses: NDArray[np.float64], work: Work, where: str) -> Trained:
    """The answer to a request for training, whose steps and losses are added to the call's work.

    Args:
        params: after the last step, on the CPU.
        infinite: names of those that are not finite.
        losses: mean loss of each step, ``(S,)``.
        work: of the client's whole call.
        where: who trained, for errors.

    Raises:
        TrainingError: when a loss or a parameter is not finite; it names the step.
    """
    refuse_infinite(losses, infinite, where)
    return ended(params, len(losses), float(losses.sum()), work)


def refuse_infinite(losses: NDArray[np.float64], infinite: Sequence[str], where: str) -> None:
    """Refuse losses of steps ``(S,)``, and parameters of these names, that are not finite; see :func:`trained`.

    Raises:
        TrainingError: naming the step.
    """
    broken = np.flatnonzero(~np.isfinite(losses))
    if len(broken):
        step = int(broken[0])
        raise TrainingError(
            f"{where}: loss is {losses[step]:g} after step {step + 1}. Lower the learning rate or the pull."
        )
    if infinite:
        raise TrainingError(
            f"{where}: parameter {infinite[0]} is not finite after step {len(losses)}. Lower the learning rate or the "
            "pull."
        )


def ended(params: Params, steps: int, total: float, work: Work) -> Trained:
    """The answer to a request for training whose ``steps`` had losses of this ``total``, all of them finite."""
    work.steps += steps
    work.loss_sum += total
    return Trained(params, total / steps if steps else float("nan"), steps)


def differentiated(gradient: Params, total: float, samples: int, where: str) -> MeanGradient:
    """The answer to a request for a gradient, of samples whose losses have this ``total``.

    Raises:
        TrainingError: when a loss or a gradient is not finite.
    """
    if not np.isfinite(total):
        raise TrainingError(
            f"{where}: loss is {total:g} where a gradient is taken. Look at the parameters it is taken at."
        )
    for name, value in gradient.items():
        if not are_finite(value[None])[0]:
            raise TrainingError(f"{where}: the gradient of {name} is not finite. Look at the request's params.")
    return MeanGradient(gradient, total / samples if samples else float("nan"), samples)


def are_finite(values: Tensor) -> list[bool]:
    """Whether all values of each lane are finite; ``values`` (N, ...)."""
    flat = values.flatten(1) if values.dim() > 1 else values.unsqueeze(1)
    # A sum that is finite has no part that is not; to look at each value takes thirty times as long.
    if bool(torch.isfinite(flat.sum(1)).all()):
        return [True] * len(values)
    found: list[bool] = torch.isfinite(flat).all(1).tolist()
    return found


def out_of_memory(error: torch.cuda.OutOfMemoryError, where: str) -> ResourceError:
    """What is said when a GPU is too small for what a client asks."""
    return ResourceError(
        f"{where}: out of GPU memory ({str(error).splitlines()[0]}). Raise clients.num_gpus, the share of a GPU that "
        "each client actor may fill, or lower training.batch_clients or the batch size."
    )
