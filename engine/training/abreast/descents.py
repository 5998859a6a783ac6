"""The training of many clients at once.

# N lanes, S steps of the longest lane
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from strata.engine.method.requests import AdamW, Sgd, Train
from strata.engine.params import Params
from strata.engine.training.descent import Corrections, Descent, Pulls
from strata.engine.training.lanes import LEAST, SHRINK, Lanes, apart, means, side_by_side, to_width
from strata.engine.training.stacked import Names, Network
from strata.engine.training.together import kind_of
from strata.engine.training.trainer import are_finite

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Descended:
    """What training has come to.

    Attributes:
        params: of each lane after its last step, on the CPU, in memory of their own.
        infinite: the names of those that are not finite, of each lane.
        losses: mean loss of each step, ``(S, N)``; 0 after a lane's last.
    """

    params: Sequence[Params]
    infinite: Sequence[Sequence[str]]
    losses: FloatArray


def joined(blocks: Sequence[Descended]) -> Descended:
    """What several blocks of lanes have come to, as one; the first has the longest lane."""
    if len(blocks) == 1:
        return blocks[0]
    params = [one for block in blocks for one in block.params]
    infinite = [names for block in blocks for names in block.infinite]
    return Descended(params, infinite, beside([block.losses for block in blocks]))


def beside(losses: Sequence[FloatArray]) -> FloatArray:
    """The losses of blocks of lanes, ``(S, N)`` each, as one; the first block has the longest lane."""
    steps = len(losses[0])
    return np.concatenate([np.pad(block, ((0, steps - len(block)), (0, 0))) for block in losses], 1)


def descend(
    requests: Sequence[Train],
    lanes: Lanes,
    ahead: Lanes | None,
    network: Network,
) -> Descended:
    """Train clients side by side.

    Args:
        requests: one a lane, all of one kind.
        lanes: what they see.
        ahead: the first batches of steps that look ahead.
        network: of their model.
    """
    first, moving, device = requests[0], network.moving, lanes.weights.device
    held = side_by_side(network.held, [request.start for request in requests], device)
    constants = side_by_side(first.constants, [request.constants for request in requests], device)
    names = Names(moving, tuple(name for name in held if name not in moving), tuple(constants))
    tensors = [*(held[name] for name in (*moving, *names.still)), *constants.values()]
    assert isinstance(first.optimizer, Sgd | AdamW)
    optimizer = Descent(first.optimizer, tensors[: len(moving)])
    corrections = _corrections(requests, held, moving, device)
    pulls = Pulls([_pull(requests, number, held, moving, device) for number in range(len(first.pull))])
    key, losses = (kind_of(first), names.moving), list[Tensor]()
    width = active = 0
    with torch.no_grad():
        for step, alive in enumerate(lanes.active):
            if alive <= SHRINK * width or not width:
                width = max(alive, LEAST)
                operands = [tensor[:width] for tensor in tensors]
                operation = network.gradients(key, first.loss, names, [*lanes.batch(step, width), *operands])
            if alive != active:
                active = alive
                optimizer.narrow(active)
                pulls.narrow(active)
                corrections.narrow(active)
            moved = operands
            if ahead is not None:
                *slopes, _ = operation(*ahead.batch(step, width), *operands)
                stepped = torch._foreach_add(operands[: len(moving)], slopes, alpha=-first.look_ahead)
                moved = [*stepped, *operands[len(moving) :]]
            *found, rows = operation(*lanes.batch(step, width), *moved)
            used = found if active == width else [one[:active] for one in found]
            factor = first.schedule(step, len(lanes.active)) if first.schedule else 1.0
            optimizer.step(corrections.added(pulls.added(used)), factor)
            losses.append(to_width(rows, len(requests)))
    return ended({name: held[name] for name in first.start}, means(torch.stack(losses), lanes.weights))


def ended(held: Params, losses_SN: FloatArray) -> Descended:
    """What lanes have come to that hold these parameters, (N, ...), and had these losses in their steps."""
    # Each client gets memory of its own: what it keeps must not keep that of the others.
    taken = [apart(value) for value in held.values()]
    finite = [are_finite(value) for value in held.values()]
    params = [dict(zip(held, values, strict=True)) for values in zip(*taken, strict=True)]
    infinite = [[name for name, fine in zip(held, lane, strict=True) if not fine] for lane in zip(*finite, strict=True)]
    return Descended(params, infinite, losses_SN)


def _corrections(requests: Sequence[Train], held: Params, moving: Sequence[str], device: torch.device) -> Corrections:
    """The corrections of all lanes, and to which norm each lane's gradients are scaled down."""
    first = requests[0]
    places = [place for place, name in enumerate(moving) if name in first.correction]
    values = {moving[place]: held[moving[place]] for place in places}
    added = side_by_side(values, [request.correction for request in requests], device)
    return Corrections(places, list(added.values()), first.clip_norm, lanes=True)


def _pull(
    requests: Sequence[Train], number: int, held: Params, moving: Sequence[str], device: torch.device
) -> tuple[list[int], list[Tensor], list[Tensor], float]:
    """A pull of all lanes: the places of what it moves, those parameters, where to, and how strongly."""
    to = requests[0].pull[number].to
    places = [place for place, name in enumerate(moving) if name in to]
    values = {moving[place]: held[moving[place]] for place in places}
    towards = side_by_side(values, [request.pull[number].to for request in requests], device)
    return places, list(values.values()), list(towards.values()), requests[0].pull[number].strength
