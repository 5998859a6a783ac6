"""Steps on coefficients of a client's own samples, which stand for the weights of a linear model.

See :mod:`strata.engine.training.abreast.duals` for the equations.

# N lanes, Q samples to which a client's are filled up, P rows of a filled batch, K classes, D inputs, S steps
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from strata.engine.data.dataset import IntArray
from strata.engine.method.requests import Sgd, Train
from strata.engine.params import Params
from strata.engine.training.abreast.descents import FloatArray
from strata.engine.training.lanes import LEAST, Lanes, means, side_by_side, to_width

LARGEST = float(np.finfo(np.float32).max)
"""Of float32, to whose infinity numbers beyond it are rounded."""


@dataclass(frozen=True)
class Own:
    """A client's own samples.

    Attributes:
        rows: of the data set, ``(Q,)``; behind the client's own its first again.
        y: classes, ``(Q,)``; behind the client's own zeros.
        products: inner products of the inputs, with 1 added to each where the layer has a bias, ``(Q, Q)``; 0 behind
            the client's own.
    """

    rows: IntArray
    y: Tensor
    products: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes of all of it."""
        return int(self.rows.nbytes + self.y.nbytes + self.products.nbytes)


def at_home(request: Train) -> tuple[bool, ...]:
    """Which pulls lead to where the client starts, as those of many a method do."""
    return tuple(pull.to is request.start for pull in request.pull)


@dataclass(frozen=True)
class Way:
    """What all lanes have in common.

    Attributes:
        lr: step size.
        kept: what a step leaves of the weights before it.
        home: what a step adds of the weights at the start, because pulls lead there.
        pulls: places of the other pulls in a request, each with what a step adds of the point that it leads to.
    """

    lr: float
    kept: float
    home: float
    pulls: Sequence[tuple[int, float]]

    @classmethod
    def of(cls, first: Train) -> "Way":
        """The way of requests that have the key of this one."""
        chosen = cast(Sgd, first.optimizer)
        steps = [chosen.lr * pull.strength for pull in first.pull]
        homes = at_home(first)
        home = sum(step for step, is_home in zip(steps, homes, strict=True) if is_home)
        apart = [(j, step) for j, step in enumerate(steps) if not homes[j]]
        kept = 1 - (sum(steps) + chosen.lr * chosen.weight_decay)
        return cls(chosen.lr, kept, home, apart)

    def points(self, requests: Sequence[Train], device: torch.device) -> list[Params]:
        """Where the lanes' models start, and where pulls lead; parameters (N, ...)."""
        held = [[one.start for one in requests], *([one.pull[j].to for one in requests] for j, _ in self.pulls)]
        return [side_by_side(requests[0].start, lanes, device) for lanes in held]

    def shares(self, steps: int) -> list[list[float]]:
        """The numbers a and b_j, one a point, before the first of so many steps, and after each."""
        shares = [[1.0, *[0.0] * len(self.pulls)]]
        added = [self.home, *(step for _, step in self.pulls)]
        for _ in range(steps):
            now = [share * self.kept + more for share, more in zip(shares[-1], added, strict=True)]
            shares.append([share if abs(share) <= LARGEST else math.inf for share in now])
        return shares


@torch.no_grad()
def logits_of(params: Params, names: tuple[str, str], x: Tensor) -> Tensor:
    """The logits (N, K, Q) of inputs (N, Q, D) with weights (N, K, D), and biases (N, K) if there are any."""
    weight, bias = names
    if bias not in params:
        return torch.bmm(params[weight], x.mT)
    return torch.baddbmm(params[bias][:, :, None], params[weight], x.mT)


@torch.no_grad()
def walked(
    products: Tensor, y: Tensor, lanes: Lanes, held: Sequence[Tensor], shares: Sequence[Sequence[float]], way: Way
) -> tuple[Tensor, FloatArray]:
    """The coefficients of lanes after their last steps, ``(N, K, Q)``, and the mean loss of each step, ``(S, N)``."""
    flat, samples = products.view(-1, products.shape[-1]), products.shape[-1]
    firsts = torch.arange(0, len(flat), samples, device=flat.device)[:, None]
    seen_S, classes_S = lanes.index + firsts, y.flatten()[lanes.index + firsts][:, :, None]
    steps_S = lanes.weights[:, :, None] * -way.lr
    coefficients = torch.zeros_like(held[0])
    likely_S = []
    for step, alive in enumerate(lanes.active):
        width = max(alive, LEAST)
        at, classes = lanes.index[step, :width], classes_S[step, :width]
        columns = at[:, None].expand(-1, coefficients.shape[1], -1)
        seen = flat.index_select(0, seen_S[step, :width].flatten()).view(*at.shape, samples)
        (a, first), *others = zip(shares[step], held, strict=True)
        z = torch.baddbmm(first[:width].gather(2, columns), coefficients[:width], seen.mT, beta=a)
        for b, other in others:
            z.add_(other[:width].gather(2, columns), alpha=b)
        likely = F.log_softmax(z, 1)
        likely_S.append(to_width(likely.gather(1, classes).squeeze(1), len(y)))
        slopes = likely.exp_().scatter_add_(1, classes, likely.new_full(classes.shape, -1.0))
        changes = slopes[:alive].mul_(steps_S[step, :alive])
        coefficients[:alive].mul_(way.kept).scatter_add_(2, columns[:alive], changes)
    return coefficients, means(torch.stack(likely_S).neg_(), lanes.weights)


@torch.no_grad()
def params_of(
    points: Sequence[Params],
    names: tuple[str, str],
    shares: Sequence[Sequence[float]],
    coefficients: Tensor,
    x: Tensor,
) -> Params:
    """The weights, and the biases if there are any, that coefficients (N, K, Q) of inputs (N, Q, D) stand for.

    ``shares``: of each lane, the numbers of the points.
    """
    found = dict(zip(names, (torch.bmm(coefficients, x), coefficients.sum(2)), strict=True))
    made = {name: found[name] for name in points[0]}
    for point, share_N in zip(points, x.new_tensor(shares).T, strict=True):
        for name, value in made.items():
            value.addcmul_(point[name], share_N.view(-1, *[1] * (value.dim() - 1)))
    return made
