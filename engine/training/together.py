"""Which requests can be answered for several clients at once; decided by the request alone, never by the company."""

from collections.abc import Hashable

import numpy as np
import torch
from cachetools import LRUCache
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from strata.engine.determinism import torch_scope
from strata.engine.method.losses import Batch, sample_losses
from strata.engine.method.requests import Evaluate, Request, Train
from strata.engine.training.batches import Rows
from strata.engine.training.flops import select_trainable, set_modes
from strata.engine.training.lanes import LEAST, lay
from strata.engine.training.modules import Modules, slots
from strata.engine.training.stacked import Names, gradients, logits
from strata.engine.training.tape import record
from strata.engine.training.trainer import Asked

VERDICTS_KEPT = 4096

Verdict = tuple[str, tuple[str, ...]]
"""Why a kind of request is answered client by client ("" where it is not), and the parameters that it moves."""


class Togetherness:
    """Tries each kind of request once, on a single row, and remembers what came of it."""

    def __init__(self, modules: Modules, rows: Rows) -> None:
        """``modules`` and ``rows``: of the trainer that asks."""
        self._modules, self._rows = modules, rows
        self._known: LRUCache[Hashable, Verdict] = LRUCache(VERDICTS_KEPT)

    def why_not(self, asked: Asked) -> str:
        """Why a request must be answered by itself, in words that follow a colon; empty where it need not."""
        if isinstance(asked.request, Train | Evaluate):
            return self._verdict(asked)[0]
        return "features are averaged client by client"

    def moving(self, asked: Asked) -> tuple[str, ...]:
        """The parameters that training moves: those it may, and that the loss depends on."""
        return self._verdict(asked)[1]

    def _verdict(self, asked: Asked) -> Verdict:
        key = kind_of(asked.request)
        if key not in self._known:
            with torch_scope(0):
                self._known[key] = self._tried(asked)
        return self._known[key]

    def _tried(self, asked: Asked) -> Verdict:
        request = asked.request
        assert isinstance(request, Train | Evaluate)
        module = self._modules.bare(request.model)
        lanes = lay(self._rows, [asked.rows[:1]] * LEAST, [[np.zeros(1, np.int64)]] * LEAST, LEAST)
        x, y, weights = lanes.batch(0, LEAST)
        try:
            if isinstance(request, Evaluate):
                module.eval()
                record(logits(module, tuple(slots(module))), [x, *_twice(slots(module))], module.buffers())
                return "", ()
            set_modes(module, request.frozen)
            if any(isinstance(part, _BatchNorm) and part.training for part in module.modules()):
                return "batch norm takes its statistics over a whole batch, which must not be filled up", ()
            constants = {name: value.to(x.device) for name, value in request.constants.items()}
            moving = _touched(module, request, Batch(x[0], y[0], constants))
            names = Names(moving, tuple(name for name in slots(module) if name not in moving), tuple(constants))
            held = slots(module)
            operands = [*(held[name] for name in (*names.moving, *names.still)), *constants.values()]
            with torch.no_grad():
                operands = [x, y, weights, *_twice(dict(enumerate(operands)))]
                record(gradients(module, request.loss, names), operands, module.buffers())
        except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
            return f"torch.func cannot batch it ({str(error).strip().splitlines()[0][:120]})", ()
        return "", moving


def kind_of(request: Request) -> Hashable:
    """Requests of one kind can be answered by the same operation, but for their numbers of rows."""
    if isinstance(request, Train):
        constants = tuple((name, value.shape, value.dtype) for name, value in request.constants.items())
        return request.model, request.loss, request.trainable, request.frozen, tuple(request.start), constants
    return type(request), request.model, tuple(request.params)


def _touched(module: nn.Module, request: Train, batch: Batch) -> tuple[str, ...]:
    """Parameters that may be trained and that the loss depends on."""
    chosen = select_trainable(module, request.trainable)
    total = sample_losses(request.loss, module, batch).sum()
    found = torch.autograd.grad(total, list(chosen.values()), allow_unused=True)
    return tuple(name for name, gradient in zip(chosen, found, strict=True) if gradient is not None)


def _twice(held: dict[str, Tensor] | dict[int, Tensor]) -> list[Tensor]:
    return [torch.stack([value.detach()] * LEAST) for value in held.values()]
