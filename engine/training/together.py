"""Which requests can be answered for several clients at once; decided by the request alone, never by the company."""

from collections.abc import Hashable, Iterable

import numpy as np
import torch
from cachetools import LRUCache
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from strata.engine.determinism import torch_scope
from strata.engine.method.losses import Batch, sample_losses
from strata.engine.method.requests import AdamW, Evaluate, Gradient, Recalibrate, Request, Sgd, Train
from strata.engine.training.batches import Rows
from strata.engine.training.flops import select_trainable, set_modes
from strata.engine.training.lanes import LEAST, lay
from strata.engine.training.modules import Modules, require_all, slots
from strata.engine.training.replay.tape import record
from strata.engine.training.stacked import Names, gradients, logits
from strata.engine.training.trainer import Asked

VERDICTS_KEPT = 4096
"""Verdicts that are kept, the last used ones; one is by kind of request."""

Verdict = tuple[str, tuple[str, ...]]
"""Why a kind of request is answered client by client ("" where it is not), and the parameters that it moves."""


class Kind:
    """What requests that are answered alike have in common, which is asked for time and again: hashed once."""

    __slots__ = ("_hash", "_parts")

    def __init__(self, *parts: object) -> None:
        """``parts``: in which kinds differ, all of which can be hashed."""
        self._parts, self._hash = parts, hash(parts)

    def __hash__(self) -> int:
        """That of the parts."""
        return self._hash

    def __eq__(self, other: object) -> bool:
        """Whether the parts are equal."""
        return self is other or (isinstance(other, Kind) and self._parts == other._parts)


class Togetherness:
    """Tries each kind of request once, on a single row, and remembers what came of it."""

    def __init__(self, modules: Modules, rows: Rows) -> None:
        """``modules`` and ``rows``: of the trainer that asks."""
        self._modules, self._rows = modules, rows
        self._known: LRUCache[Hashable, Verdict] = LRUCache(VERDICTS_KEPT)

    def why_not(self, asked: Asked, kind: Hashable) -> str:
        """Why a request of a kind must be answered by itself, in words that follow a colon; empty where it need not."""
        if isinstance(asked.request, Train) and not isinstance(asked.request.optimizer, Sgd | AdamW):
            return f"{type(asked.request.optimizer).__name__} is an optimiser of one's own"
        if isinstance(asked.request, Train | Gradient | Evaluate):
            return self._verdict(asked, kind)[0]
        if isinstance(asked.request, Recalibrate):
            return "batch norm's statistics are computed client by client"
        return "features are averaged client by client"

    def moving(self, asked: Asked) -> tuple[str, ...]:
        """The parameters that have a gradient: those that may, and that the loss depends on."""
        return self._verdict(asked, kind_of(asked.request))[1]

    def _verdict(self, asked: Asked, kind: Hashable) -> Verdict:
        if kind not in self._known:
            with torch_scope(0):
                self._known[kind] = self._tried(asked)
        return self._known[kind]

    def _tried(self, asked: Asked) -> Verdict:
        request = asked.request
        assert isinstance(request, Train | Gradient | Evaluate)
        try:
            if isinstance(request, Evaluate):
                return self._try_model(request, asked)
            return self._try_gradients(request, asked)
        except Exception as error:  # of torch.func, or of a method's or a user's code: one by one it is what it is
            return f"torch.func cannot batch it ({(str(error).strip() or repr(error)).splitlines()[0][:120]})", ()

    def _try_model(self, request: Evaluate, asked: Asked) -> Verdict:
        module = self._modules.bare(request.model).eval()
        held = slots(module)
        require_all(held, request.params)
        x, _, _ = self._row(asked)
        record(logits(module, tuple(held)), [x, *_twice(held.values())], module.buffers())
        return "", ()

    def _try_gradients(self, request: Train | Gradient, asked: Asked) -> Verdict:
        module = self._modules.bare(request.model)
        held = slots(module)
        if isinstance(request, Train):
            require_all(held, request.start)
            set_modes(module, request.frozen)
        else:
            require_all(held, request.params)
            module.eval()
        if any(isinstance(part, _BatchNorm) and part.training for part in module.modules()):
            return "batch norm takes its statistics over a whole batch, which must not be filled up", ()
        x, y, weights = self._row(asked)
        constants = {name: value.to(x.device) for name, value in request.constants.items()}
        moving = _touched(module, request, Batch(x[0].clone(), y[0], constants))
        names = Names(moving, tuple(name for name in held if name not in moving), tuple(constants))
        tensors = _twice([*(held[name] for name in (*names.moving, *names.still)), *constants.values()])
        with torch.no_grad():
            record(gradients(module, request.loss, names), [x, y, weights, *tensors], module.buffers())
        if any(tensor._version for tensor in tensors):  # also of clients that are done, and only computed along
            return "it changes its buffers, or what it is given, in place", ()
        return "", moving

    def _row(self, asked: Asked) -> tuple[Tensor, Tensor, Tensor]:
        """A batch of one of the client's rows, twice."""
        one = [np.zeros(1, np.int64)]
        return lay(self._rows, [asked.rows[:1]] * LEAST, [one] * LEAST, LEAST).batch(0, LEAST)


def kind_of(request: Request) -> Kind:
    """Requests of one kind can be answered by the same operation, but for their numbers of rows."""
    if isinstance(request, Train):
        start, shapes = tuple(request.start), _shapes(request)
        return Kind(request.model, request.loss, request.trainable, request.frozen, start, shapes)
    if isinstance(request, Gradient):
        params, shapes = tuple(request.params), _shapes(request)
        return Kind(Gradient, request.model, request.loss, request.trainable, params, shapes)
    return Kind(type(request), request.model, tuple(request.params))


def changes_of(request: Train) -> Hashable:
    """What a step of training makes of gradients before the optimiser has them; see :func:`kind_of`."""
    pulls = tuple((tuple(pull.to), pull.strength) for pull in request.pull)
    return pulls, tuple(request.correction), request.clip_norm, request.schedule, request.look_ahead


def _shapes(request: Train | Gradient) -> Hashable:
    return tuple((name, value.shape, value.dtype) for name, value in request.constants.items())


def _touched(module: nn.Module, request: Train | Gradient, batch: Batch) -> tuple[str, ...]:
    """Parameters that may be trained and that the loss depends on."""
    chosen = select_trainable(module, request.trainable)
    total = sample_losses(request.loss, module, batch).sum()
    found = torch.autograd.grad(total, list(chosen.values()), allow_unused=True)
    return tuple(name for name, gradient in zip(chosen, found, strict=True) if gradient is not None)


def _twice(tensors: Iterable[Tensor]) -> list[Tensor]:
    return [torch.stack([tensor.detach()] * LEAST) for tensor in tensors]
