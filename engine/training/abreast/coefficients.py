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

from strata.engine.determinism import single_thread
from strata.engine.method.requests import Sgd, Train
from strata.engine.params import Params
from strata.engine.training.abreast.descents import FloatArray
from strata.engine.training.lanes import LEAST, Lanes, means, to_width
from strata.engine.training.trainer import are_finite

LARGEST = float(np.finfo(np.float32).max)
"""Of float32, to whose infinity numbers beyond it are rounded."""


@dataclass(frozen=True)
class Own:
    """A client's own samples.

    Attributes:
        x: inputs, ``(n, D)``.
        y: classes, ``(Q,)``; behind the client's own zeros.
        products: inner products of the inputs, with 1 added to each where the layer has a bias, ``(Q, Q)``; 0 behind
            the client's own.
    """

    x: Tensor
    y: Tensor
    products: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes of its tensors that nobody else holds."""
        is_part = self.x.untyped_storage().nbytes() > self.x.nbytes
        return int(self.y.nbytes + self.products.nbytes) + (0 if is_part else int(self.x.nbytes))


@dataclass(frozen=True)
class Point:
    """Weights and bias of a lane's model, (K, D) and (K,), on the trainer's device; no bias: None."""

    weight: Tensor
    bias: Tensor | None

    def logits(self, x: Tensor) -> Tensor:
        """The logits (K, n) of inputs (n, D)."""
        return self.weight @ x.T if self.bias is None else torch.addmm(self.bias[:, None], self.weight, x.T)


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

    def points(self, request: Train, names: tuple[str, str], device: torch.device) -> list[Point]:
        """Where a lane's model starts, and where pulls lead."""
        weight, bias = names
        held = [request.start, *(request.pull[j].to for j, _ in self.pulls)]
        return [Point(one[weight].to(device), one[bias].to(device) if bias in one else None) for one in held]

    def shares(self, steps: int) -> list[list[float]]:
        """The numbers a and b_j, one a point, before the first of so many steps, and after each."""
        shares = [[1.0, *[0.0] * len(self.pulls)]]
        added = [self.home, *(step for _, step in self.pulls)]
        for _ in range(steps):
            now = [share * self.kept + more for share, more in zip(shares[-1], added, strict=True)]
            shares.append([share if abs(share) <= LARGEST else math.inf for share in now])
        return shares


@torch.no_grad()
def logits_at(points: Sequence[Sequence[Point]], owned: Sequence[Own]) -> list[Tensor]:
    """The logits of all samples at each point of the lanes, ``(N, K, Q)``."""
    made = []
    with single_thread():
        for number, point in enumerate(points[0]):
            found = owned[0].x.new_zeros(len(points), len(point.weight), len(owned[0].y))
            for lane, own in enumerate(owned):
                found[lane, :, : len(own.x)] = points[lane][number].logits(own.x)
            made.append(found)
    return made


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
def weights_of(
    points: Sequence[Point], shares: Sequence[float], coefficients: Tensor, x: Tensor, names: tuple[str, str]
) -> Params:
    """The parameters that coefficients (K, Q) stand for, on the CPU, in memory of their own."""
    own, (a, *others) = coefficients[:, : len(x)], shares
    start, *towards = points
    with single_thread():
        weight = torch.addmm(start.weight, own, x, beta=a)
        bias = None if start.bias is None else torch.add(own.sum(1), start.bias, alpha=a)
    for b, point in zip(others, towards, strict=True):
        weight.add_(point.weight, alpha=b)
        if bias is not None and point.bias is not None:
            bias.add_(point.bias, alpha=b)
    made = {names[0]: weight.cpu()}
    return made if bias is None else {**made, names[1]: bias.cpu()}


def infinite_among(params: Sequence[Params]) -> list[list[str]]:
    """The names of those that are not finite, of each lane."""
    fine = {name: are_finite(torch.stack([one[name] for one in params])) for name in params[0]}
    return [[name for name, lanes in fine.items() if not lanes[lane]] for lane in range(len(params))]
