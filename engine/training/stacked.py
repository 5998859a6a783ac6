"""What a step is for many clients at once: gradients by :mod:`torch.func`, and optimisers over stacked parameters.

``vmap(grad(…))`` costs a millisecond of Python per step, more than a small model's arithmetic. So the operations that it
comes to are recorded once (:func:`~torch.fx.experimental.proxy_tensor.make_fx`), and replayed in the steps that follow:
the same operations on the same operands, so the same bits.

# N lanes, P rows of a filled batch
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import torch
from cachetools import LRUCache
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.func import functional_call, grad, vmap
from torch.optim.adamw import adamw

from strata.engine.method.losses import Loss, sample_losses
from strata.engine.method.requests import AdamW, Sgd
from strata.engine.training.lanes import Weighed

Operation = Callable[..., Sequence[Tensor]]

OPERATIONS_KEPT = 256
"""Recorded operations that are kept, the last used ones; one is by request, number of lanes and rows."""


class _Scored(nn.Module):
    """A model with its loss, so that a loss may use any part of the model while its parameters are exchanged."""

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, batch: Weighed) -> Tensor:
        return sample_losses(self.loss, self.model, batch)


@dataclass(frozen=True)
class Names:
    """Of the tensors that an operation takes behind its batch: what is trained, what stands still, constants."""

    moving: tuple[str, ...]
    still: tuple[str, ...]
    constants: tuple[str, ...]


def gradients(model: nn.Module, loss: Loss, names: Names) -> Operation:
    """The operation of one step.

    It takes x ``(N, P, ...)``, y and weights ``(N, P)``, and the tensors of ``names`` in that order, each ``(N, ...)``.
    It gives the gradient of the batch's mean loss for each name in ``names.moving``, ``(N, ...)``, and last the loss of
    each row, ``(N, P)``.
    """
    scored = _Scored(model, loss)
    first_still, first_constant = len(names.moving), len(names.moving) + len(names.still)

    def lane(x: Tensor, y: Tensor, weights: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        still = _prefixed(names.still, tensors[first_still:first_constant])
        constants = dict(zip(names.constants, tensors[first_constant:], strict=True))
        batch = Weighed(x, y, constants, weights)

        def objective(moving: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
            held = {**still, **_prefixed(names.moving, moving)}
            values: Tensor = functional_call(scored, held, (batch,))
            return batch.mean(values), values.detach()

        found, values = grad(objective, has_aux=True)(tensors[:first_still])
        return (*found, values)

    operation: Operation = vmap(lane)  # a model that draws is refused: who drew what would depend on who is beside
    return operation


def logits(model: nn.Module, names: Sequence[str]) -> Operation:
    """The operation of a forward pass: x ``(N, P, ...)`` and the named tensors ``(N, ...)`` to logits ``(N, P, K)``."""

    def lane(x: Tensor, *tensors: Tensor) -> tuple[Tensor]:
        return (functional_call(model, dict(zip(names, tensors, strict=True)), (x,)),)

    operation: Operation = vmap(lane)
    return operation


def _prefixed(names: Sequence[str], tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    return {f"model.{name}": tensor for name, tensor in zip(names, tensors, strict=True)}


class Operations:
    """Operations, recorded when they are first asked for."""

    def __init__(self) -> None:
        """Nothing is recorded yet."""
        self._kept: LRUCache[Hashable, Operation] = LRUCache(OPERATIONS_KEPT)

    def get(self, key: Hashable, make: Callable[[], Operation], operands: Sequence[Tensor]) -> Operation:
        """The recording of an operation for operands of these shapes.

        ``key`` says which operation it is; ``make`` gives it where it is not recorded yet.
        """
        shaped = key, tuple(operand.shape for operand in operands)
        if shaped not in self._kept:
            graph = make_fx(make())(*operands)
            graph.graph.eliminate_dead_code()
            graph.recompile()
            self._kept[shaped] = graph.forward
        return self._kept[shaped]


class StackedOptimizer:
    """SGD or AdamW over parameters of many clients, each ``(N, ...)``: what torch's own does, client by client."""

    def __init__(self, chosen: Sgd | AdamW, values: Sequence[Tensor]) -> None:
        """``values``: the parameters, which :meth:`step` changes."""
        self._chosen, self._values = chosen, list(values)
        adaptive, heavy = isinstance(chosen, AdamW), isinstance(chosen, Sgd) and chosen.momentum
        self._first = [torch.zeros_like(value) for value in values] if adaptive or heavy else []
        self._second = [torch.zeros_like(value) for value in values] if adaptive else []
        self._steps = [torch.zeros(()) for _ in values] if adaptive else []

    def step(self, gradients: Sequence[Tensor], lanes: int) -> None:
        """Change the first ``lanes`` of the parameters by their gradients, ``(lanes, ...)`` each."""
        values, first = [v[:lanes] for v in self._values], [m[:lanes] for m in self._first]
        chosen = self._chosen
        if isinstance(chosen, AdamW):
            adamw(
                values,
                list(gradients),
                first,
                [m[:lanes] for m in self._second],
                [],
                self._steps,
                foreach=True,
                amsgrad=False,
                beta1=0.9,
                beta2=0.999,
                lr=chosen.lr,
                weight_decay=chosen.weight_decay,
                eps=1e-8,
                maximize=False,
            )
            return
        if chosen.weight_decay:
            gradients = torch._foreach_add(gradients, values, alpha=chosen.weight_decay)
        if chosen.momentum:
            torch._foreach_mul_(first, chosen.momentum)
            torch._foreach_add_(first, gradients)
            gradients = first
        torch._foreach_add_(values, gradients, alpha=-chosen.lr)
