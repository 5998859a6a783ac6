"""The training of many clients at once.

# N lanes, S steps of the longest lane
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from strata.engine.method.requests import AdamW, Sgd, Train
from strata.engine.params import Params
from strata.engine.training.batches import Store
from strata.engine.training.descent import Corrections, Descent, Pulls
from strata.engine.training.lanes import LEAST, SHRINK, Lanes, apart, means, side_by_side, to_width
from strata.engine.training.replay.tape import Operation
from strata.engine.training.stacked import Names, Network
from strata.engine.training.together import changes_of, kind_of
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
    made = np.zeros((len(losses[0]), sum(block.shape[1] for block in losses)))
    first = 0
    for block in losses:
        made[: len(block), first : first + block.shape[1]] = block
        first += block.shape[1]
    return made


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
    still = [*(held[name] for name in names.still), *constants.values()]
    course = _Course(first, names, network)
    pulled = {place: [request.pull[place].to for request in requests] for place in range(len(first.pull))}
    towards = [_beside(held, course.pulled(place), to, device) for place, to in pulled.items()]
    corrections = _beside(held, course.corrected, [request.correction for request in requests], device)
    fixed = [*still, *chain.from_iterable(towards), *corrections]
    losses = course.quickly(lanes, ahead, [held[name] for name in moving], fixed)
    return ended({name: held[name] for name in first.start}, means(losses, lanes.weights))


def _beside(
    held: Params, names: Sequence[str], values: Sequence[Mapping[str, Tensor]], device: torch.device
) -> list[Tensor]:
    """What all lanes have by these names, as one tensor each, of the types of what is held."""
    return list(side_by_side({name: held[name] for name in names}, values, device).values())


@dataclass(frozen=True)
class _Course:
    """The steps of clients side by side: all but their tensors.

    Attributes:
        first: one of their requests.
        names: of the tensors that a step takes.
        network: of their model.
        recorded: the operation of a step by the number of lanes, as far as it was made.
    """

    first: Train
    names: Names
    network: Network
    recorded: dict[int, Operation] = field(default_factory=dict)

    def pulled(self, number: int) -> list[str]:
        """The parameters that a pull moves."""
        return [name for name in self.names.moving if name in self.first.pull[number].to]

    @property
    def corrected(self) -> list[str]:
        """The parameters whose gradients are corrected."""
        return [name for name in self.names.moving if name in self.first.correction]

    def quickly(self, lanes: Lanes, ahead: Lanes | None, moving: list[Tensor], fixed: list[Tensor]) -> Tensor:
        """What :meth:`steps` makes, without Python where the same came before and lanes end together."""
        together, on_cpu = lanes.active[0] == lanes.active[-1], lanes.weights.device.type == "cpu"
        if not (together and on_cpu and isinstance(lanes.fetch, Store)):
            return self.steps(lanes, ahead, moving, fixed)
        seen = [lanes] if ahead is None else [lanes, ahead]
        steps, read = lanes.steps, [tensor for one in seen for tensor in _taken_apart(one)]
        first_fixed, first_moving = len(read), len(read) + len(fixed)

        def operation(*operands: Tensor) -> tuple[Tensor]:
            x, y, index, weights, *rest = operands[:first_fixed]
            again = Lanes(index, Store(x, y), weights, steps)
            first = Lanes(rest[2], Store(rest[0], rest[1]), rest[3], steps) if rest else None
            return (self.steps(again, first, list(operands[first_moving:]), list(operands[first_fixed:first_moving])),)

        key = kind_of(self.first), self.names.moving, changes_of(self.first), self.first.optimizer
        made = self.network.operations.quickened(key, operation, len(lanes.active), [*read, *fixed], moving)
        (losses,) = made(*read, *fixed, *moving)
        return losses

    def steps(self, lanes: Lanes, ahead: Lanes | None, moving: list[Tensor], fixed: list[Tensor]) -> Tensor:
        """Make all steps; gives the loss of each row, ``(S, N, P)``.

        Args:
            lanes: what the clients see.
            ahead: the first batches of steps that look ahead.
            moving: what is trained, ``(N, ...)`` each; it is changed.
            fixed: what stands still, constants, where each pull pulls to, and corrections, ``(N, ...)`` each.
        """
        first, names = self.first, self.names
        given = iter(fixed)
        still = list(islice(given, len(names.still) + len(names.constants)))
        places = [[names.moving.index(name) for name in self.pulled(number)] for number in range(len(first.pull))]
        pulls = Pulls(
            [
                (own, [moving[place] for place in own], list(islice(given, len(own))), pull.strength)
                for own, pull in zip(places, first.pull, strict=True)
            ]
        )
        corrected = [names.moving.index(name) for name in self.corrected]
        corrections = Corrections(corrected, list(given), first.clip_norm, lanes=True)
        assert isinstance(first.optimizer, Sgd | AdamW)
        optimizer = Descent(first.optimizer, moving)
        key, losses = (kind_of(first), names.moving), list[Tensor]()
        width = active = 0
        with torch.no_grad():
            for step, alive in enumerate(lanes.active):
                if alive <= SHRINK * width or not width:
                    width = max(alive, LEAST)
                    operands = [tensor[:width] for tensor in (*moving, *still)]
                    if width not in self.recorded:
                        taken = [*lanes.batch(step, width), *operands]
                        self.recorded[width] = self.network.gradients(key, first.loss, names, taken)
                    operation = self.recorded[width]
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
                losses.append(to_width(rows, len(lanes.steps)))
        return torch.stack(losses)


def ended(held: Params, losses_SN: FloatArray) -> Descended:
    """What lanes have come to that hold these parameters, (N, ...), and had these losses in their steps."""
    # Each client gets memory of its own: what it keeps must not keep that of the others.
    taken = [apart(value) for value in held.values()]
    finite = [are_finite(value) for value in held.values()]
    params = [dict(zip(held, values, strict=True)) for values in zip(*taken, strict=True)]
    infinite = [[name for name, fine in zip(held, lane, strict=True) if not fine] for lane in zip(*finite, strict=True)]
    return Descended(params, infinite, losses_SN)


def _taken_apart(lanes: Lanes) -> list[Tensor]:
    """Inputs and targets of a store, which lanes are, and their numbers and weights."""
    store = cast(Store, lanes.fetch)
    return [store.x, store.y, lanes.index, lanes.weights]
