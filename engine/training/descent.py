"""Optimisers over lists of tensors: of one client, or of many at once, stacked.

torch's own classes import its compiler, which costs every process that trains two seconds and 70 MB. Their arithmetic
is kept, operation by operation.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from strata.engine.method.requests import AdamW, Made, Sgd

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # torch's


class Descent:
    """SGD or AdamW, which changes its parameters in place."""

    def __init__(self, chosen: Sgd | AdamW, values: Sequence[Tensor]) -> None:
        """``values``: the parameters."""
        self._chosen, self._values = chosen, list(values)
        adaptive, heavy = isinstance(chosen, AdamW), isinstance(chosen, Sgd) and chosen.momentum > 0
        self._first = [torch.zeros_like(value) for value in values] if adaptive or heavy else []
        self._second = [torch.zeros_like(value) for value in values] if adaptive else []
        self._steps = [0] * len(self._values)

    def narrow(self, lanes: int) -> None:
        """Leave all but the first ``lanes`` along the first dimension as they are from now on."""
        self._values, self._first, self._second = (
            [tensor[:lanes] for tensor in tensors] for tensors in (self._values, self._first, self._second)
        )

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor | None], factor: float = 1.0) -> None:
        """Change the parameters by their gradients; those without one stay as they are.

        ``factor`` multiplies the learning rate.
        """
        places = [place for place, gradient in enumerate(gradients) if gradient is not None]
        given = [gradient for gradient in gradients if gradient is not None]
        if not given:
            return
        values, first = self._at(self._values, places), self._at(self._first, places)
        if isinstance(self._chosen, AdamW):
            self._adapt(self._chosen, self._chosen.lr * factor, places, values, given, first)
            return
        if self._chosen.weight_decay:
            given = list(torch._foreach_add(given, values, alpha=self._chosen.weight_decay))
        if self._chosen.momentum:
            torch._foreach_mul_(first, self._chosen.momentum)
            torch._foreach_add_(first, given)
            given = first
        torch._foreach_add_(values, given, alpha=-self._chosen.lr * factor)

    def _adapt(
        self,
        chosen: AdamW,
        lr: float,
        places: list[int],
        values: list[Tensor],
        gradients: list[Tensor],
        first: list[Tensor],
    ) -> None:
        """AdamW's step at a learning rate (Loshchilov and Hutter, arXiv 1711.05101, algorithm 2)."""
        second = self._at(self._second, places)
        for place in places:
            self._steps[place] += 1
        torch._foreach_mul_(values, 1 - lr * chosen.weight_decay)
        torch._foreach_lerp_(first, gradients, 1 - BETA1)
        torch._foreach_mul_(second, BETA2)
        torch._foreach_addcmul_(second, gradients, gradients, 1 - BETA2)
        corrections = [1 - BETA2 ** self._steps[place] for place in places]
        sizes = [-(lr / (1 - BETA1 ** self._steps[place])) for place in places]
        roots = torch._foreach_sqrt(second)
        torch._foreach_div_(roots, [correction**0.5 for correction in corrections])
        torch._foreach_add_(roots, EPSILON)
        torch._foreach_addcdiv_(values, first, roots, sizes)

    @staticmethod
    def _at(tensors: list[Tensor], places: list[int]) -> list[Tensor]:
        return [tensors[place] for place in places] if len(places) < len(tensors) else tensors


class Foreign:
    """An optimiser of one's own, of one client."""

    def __init__(self, chosen: Made, values: Sequence[nn.Parameter]) -> None:
        """``values``: the parameters."""
        self._values = list(values)
        self._optimizer = chosen.make(list(values))
        self._rates = [group.get("lr", 0.0) for group in self._optimizer.param_groups]

    def step(self, gradients: Sequence[Tensor | None], factor: float = 1.0) -> None:
        """See :meth:`Descent.step`."""
        for value, gradient in zip(self._values, gradients, strict=True):
            value.grad = gradient
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        self._optimizer.step()
        for value in self._values:
            value.grad = None


class LookAhead:
    """While it is entered, parameters are where a step of plain descent takes them; then as they were, to the bit."""

    def __init__(self, values: Sequence[Tensor], gradients: Sequence[Tensor | None], lr: float) -> None:
        """``values``: the parameters. Those without a gradient stay where they are."""
        pairs = [(value, found) for value, found in zip(values, gradients, strict=True) if found is not None]
        self._values, self._gradients, self._lr = [value for value, _ in pairs], [found for _, found in pairs], lr

    @torch.no_grad()
    def __enter__(self) -> None:
        """Step ahead."""
        self._before = [value.clone() for value in self._values]
        if self._values:
            torch._foreach_add_(self._values, self._gradients, alpha=-self._lr)

    @torch.no_grad()
    def __exit__(self, *exception: object) -> None:
        """Go back."""
        if self._values:
            torch._foreach_copy_(self._values, self._before)


class Pulls:
    """Proximal terms: what they add to gradients, ``strength · (θ − to)`` each."""

    def __init__(self, pulls: Sequence[tuple[Sequence[int], Sequence[Tensor], Sequence[Tensor], float]]) -> None:
        """Of each: the places of its parameters among the gradients, these parameters, where to, and how strongly."""
        self._pulls = list(pulls)

    def narrow(self, lanes: int) -> None:
        """Leave all but the first ``lanes`` along the first dimension alone from now on."""
        self._pulls = [
            (places, [value[:lanes] for value in values], [to[:lanes] for to in towards], strength)
            for places, values, towards, strength in self._pulls
        ]

    @torch.no_grad()
    def added(self, gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
        """The gradients with the pulls, in their order. What has no gradient is not pulled: it stays where it is."""
        found = list(gradients)
        for places, values, towards, strength in self._pulls:
            used = [
                (place, gradient, value, to)
                for place, value, to in zip(places, values, towards, strict=True)
                if (gradient := found[place]) is not None
            ]
            if not used:
                continue
            distances = torch._foreach_sub([value for _, _, value, _ in used], [to for *_, to in used])
            pulled = torch._foreach_add([gradient for _, gradient, _, _ in used], distances, alpha=strength)
            for (place, *_), gradient in zip(used, pulled, strict=True):
                found[place] = gradient
        return found


class Corrections:
    """What is added to gradients in every step, and to which norm they are scaled down then."""

    def __init__(self, places: Sequence[int], values: Sequence[Tensor], clip_norm: float, lanes: bool) -> None:
        """Of the corrections, the places among the gradients and the tensors; ``lanes``: all are stacked, (N, ...)."""
        self._places, self._values, self._most, self._lanes = places, list(values), clip_norm, lanes

    def narrow(self, lanes: int) -> None:
        """Leave all but the first ``lanes`` along the first dimension alone from now on."""
        self._values = [value[:lanes] for value in self._values]

    @torch.no_grad()
    def added(self, gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
        """The corrected gradients, in their order. What has no gradient is not corrected: it stays where it is."""
        found = list(gradients)
        for place, value in zip(self._places, self._values, strict=True):
            gradient = found[place]
            found[place] = None if gradient is None else gradient + value
        return self._clipped(found) if self._most else found

    def _clipped(self, gradients: list[Tensor | None]) -> list[Tensor | None]:
        """Each lane's gradients, scaled down where their norm is too large."""
        given = [one if self._lanes else one[None] for one in gradients if one is not None]
        squares = [one.flatten(1).to(torch.float64).square().sum(1) for one in given]
        norms_N = torch.stack(squares).sum(0).sqrt()
        scales_N = (self._most / norms_N.clamp(min=self._most)).to(torch.float32)  # exactly 1 below
        return [None if one is None else scaled(one, scales_N if self._lanes else scales_N[0]) for one in gradients]


def scaled(values: Tensor, scales: Tensor) -> Tensor:
    """Values (N, ...), times a number each, (N,); or all times one."""
    return values * scales.view(-1, *[1] * (values.dim() - 1)) if scales.dim() else values * scales
