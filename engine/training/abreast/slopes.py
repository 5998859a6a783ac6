"""Gradients of many clients at once, each the mean over a client's samples.

# N lanes, S steps, P rows of a filled batch
"""

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch

from strata.engine.method.requests import Gradient
from strata.engine.params import Params
from strata.engine.training.descent import scaled
from strata.engine.training.lanes import LEAST, Lanes, apart, side_by_side
from strata.engine.training.stacked import Names, Network
from strata.engine.training.together import kind_of
from strata.engine.training.trainer import Asked


def mean_gradients(
    group: Sequence[Asked],
    lanes: Lanes,
    network: Network,
    wanted: Sequence[str],
) -> list[tuple[Params, float]]:
    """Of each lane the gradient by parameter, in memory of its own, and the sum of its samples' losses.

    Args:
        group: requests for gradients, one a lane, all of one kind.
        lanes: what they see, each sample once.
        network: of their model, in evaluation mode.
        wanted: the parameters whose gradient is asked for; it is zero where the loss does not depend on them.
    """
    requests, sizes = [cast(Gradient, one.request) for one in group], [len(one.rows) for one in group]
    first, device = requests[0], lanes.weights.device
    held = side_by_side(network.held, [request.params for request in requests], device)
    constants = side_by_side(first.constants, [request.constants for request in requests], device)
    moving = network.moving
    names = Names(moving, tuple(name for name in held if name not in moving), tuple(constants))
    tensors = [*(held[name] for name in (*moving, *names.still)), *constants.values()]
    sums = {name: torch.zeros_like(held[name]) for name in wanted}
    totals = np.zeros(len(requests))
    with torch.no_grad():
        for step, alive in enumerate(lanes.active):
            width = max(alive, LEAST)
            operands = [*lanes.batch(step, width), *(tensor[:width] for tensor in tensors)]
            key = kind_of(first), names.moving
            *found, rows = network.gradients(key, first.loss, names, operands)(*operands)
            counts = lanes.weights[step, :width] > 0
            shares = counts.sum(1) / torch.tensor(sizes[:width], device=device)
            for name, gradient in zip(moving, found, strict=True):
                sums[name][:alive] += scaled(gradient, shares)[:alive]
            totals[:alive] += rows.to(torch.float64).masked_fill(~counts, 0.0).sum(1).cpu().numpy()[:alive]
    taken = {name: apart(value) for name, value in sums.items()}
    return [({name: values[lane] for name, values in taken.items()}, float(total)) for lane, total in enumerate(totals)]
