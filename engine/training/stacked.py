"""What a step is for many clients at once: gradients by :mod:`torch.func`.

``vmap`` and autograd cost a millisecond of Python per step, more than a small model's arithmetic. So the operations
that they come to are recorded once (:mod:`~strata.engine.training.replay.tape`), and replayed in the steps that follow.

# N lanes, P rows of a filled batch
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from threading import RLock

import torch
from cachetools import LRUCache
from torch import Tensor, nn
from torch.func import functional_call, vmap

from strata.engine.method.losses import Loss, sample_losses
from strata.engine.params import Params
from strata.engine.training.lanes import Weighed
from strata.engine.training.replay.compiled import compiled
from strata.engine.training.replay.entropy import Entropy
from strata.engine.training.replay.tape import Operation, record

OPERATIONS_KEPT = 256
"""Recorded operations that are kept, the last used ones; one is by request, number of lanes and rows."""

STEPS_COMPILED = 256
"""Steps that are compiled in all, at most: each of them has operations of its own, half a megabyte of them."""

WORTH_COMPILING = 16
"""How often an operation of several steps has come, in equal shapes, before it is compiled: that takes as long."""


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

    It takes x and y ``(N, P, ...)``, weights ``(N, P)``, and the tensors of ``names`` in that order, each ``(N, ...)``.
    It gives the gradient of the batch's mean loss for each name in ``names.moving``, ``(N, ...)``, and last the loss of
    each row, ``(N, P)``.
    """
    scored = _Scored(model, loss)
    first_still, first_constant = len(names.moving), len(names.moving) + len(names.still)

    def lane(x: Tensor, y: Tensor, weights: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        held = _prefixed((*names.moving, *names.still), tensors[:first_constant])
        constants = dict(zip(names.constants, tensors[first_constant:], strict=True))
        batch = Weighed(x, y, constants, weights)
        with Entropy(y):
            values: Tensor = functional_call(scored, held, (batch,))
        return batch.mean(values), values

    def operation(x: Tensor, y: Tensor, weights: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            moving = [tensor.detach().requires_grad_() for tensor in tensors[:first_still]]
            # A model that draws is refused here: who drew what would depend on who is beside.
            means, values = vmap(lane)(x, y, weights, *moving, *tensors[first_still:])
            # Lanes do not touch each other, so the gradient of the sum is the gradient of each.
            found = torch.autograd.grad(means.sum(), moving)
        return (*found, values.detach())

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
    """Operations, recorded when they are first asked for, by whichever thread."""

    def __init__(self) -> None:
        """Nothing is recorded yet."""
        self._kept: LRUCache[Hashable, Operation] = LRUCache(OPERATIONS_KEPT)
        self._compiled: dict[Hashable, Operation] = {}  # to compile one again and again would take longer than it saves
        self._left = STEPS_COMPILED
        self._came: LRUCache[Hashable, int] = LRUCache(OPERATIONS_KEPT)  # how often each has that is not compiled
        self._unable: LRUCache[Hashable, None] = LRUCache(OPERATIONS_KEPT)  # keys of what cannot be compiled
        self._one_at_a_time = RLock()  # what is compiled uses what is recorded

    def get(
        self, key: Hashable, make: Callable[[], Operation], operands: Sequence[Tensor], model: nn.Module
    ) -> Operation:
        """The recording of an operation for operands of these shapes.

        ``key`` says which operation it is; ``make`` gives it where it is not recorded yet; ``model`` is its model.
        """
        shaped = key, tuple(operand.shape for operand in operands)
        with self._one_at_a_time:
            if shaped not in self._kept:
                # On copies: what it changes in place is to be changed by its replay, once.
                copies = [operand.clone() for operand in operands]
                self._kept[shaped] = record(make(), copies, model.buffers())
            return self._kept[shaped]

    def quickened(
        self, key: Hashable, operation: Operation, steps: int, read: Sequence[Tensor], changed: Sequence[Tensor]
    ) -> Operation:
        """An operation of so many steps, compiled once it has come often enough; see :func:`~.compiled.compiled`.

        ``key`` says which operation it is.
        """
        shaped = key, tuple(operand.shape for operand in (*read, *changed))
        with self._one_at_a_time:
            if shaped in self._compiled:
                return self._compiled[shaped]
            self._came[shaped] = self._came.get(shaped, 0) + 1
            if key in self._unable or self._came[shaped] <= WORTH_COMPILING or steps > self._left:
                return operation
            made = compiled(operation, read, changed)
            if made is operation:
                self._unable[key] = None
            else:
                self._compiled[shaped], self._left = made, self._left - steps
            return made


@dataclass(frozen=True)
class Network:
    """The module of a group of requests, as several threads may use it: it is touched only while it is recorded.

    Attributes:
        module: in the modes in which it is used.
        held: its parameters and buffers by name, which the lanes' stand in for.
        operations: recorded ones.
        moving: the parameters that have a gradient.
    """

    module: nn.Module
    held: Params
    operations: Operations
    moving: tuple[str, ...] = ()

    def gradients(self, key: Hashable, loss: Loss, names: Names, operands: Sequence[Tensor]) -> Operation:
        """The recording of :func:`gradients`, for requests of a kind."""
        return self.operations.get(key, lambda: gradients(self.module, loss, names), operands, self.module)

    def logits(self, key: Hashable, operands: Sequence[Tensor]) -> Operation:
        """The recording of :func:`logits`, for requests of a kind."""
        return self.operations.get(key, lambda: logits(self.module, tuple(self.held)), operands, self.module)
