"""Counting the FLOPs of a step, by making one on a copy of the model."""

from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary

import torch
from cachetools import LRUCache
from torch import Tensor, nn

from strata.engine.determinism import single_thread, torch_scope
from strata.engine.method.losses import Batch, SmoothedCrossEntropy, cross_entropy, mean_loss, task_loss
from strata.engine.method.requests import Gradient, Train
from strata.engine.models.base import Buildable, Shape, features_of
from strata.engine.models.flop_counter import FlopCounter
from strata.engine.models.spec import Joint, ModelSpec
from strata.engine.models.supernets.cost import cost
from strata.engine.models.supernets.subnet import SubnetSpec
from strata.engine.models.zoo import MODELS

FLOPS_KEPT = 4096
"""Counts that are kept, the last used ones; one is by architecture, loss and batch shape."""


class FlopCounts:
    """FLOPs of training steps and of forward passes, each kind counted once and then remembered."""

    def __init__(self) -> None:
        """Start with nothing counted; the last :data:`FLOPS_KEPT` kinds that were asked for are remembered."""
        self._kept: LRUCache[tuple[object, ...], int] = LRUCache(FLOPS_KEPT)
        self._lines: LRUCache[object, tuple[int, int] | None] = LRUCache(FLOPS_KEPT)

    def step(self, request: Train | Gradient, batch: Batch) -> int:
        """FLOPs of the forward and the backward pass of a batch, of which a training step is made.

        Steps are of one kind where architecture, loss, trained and frozen parts and the shapes of the batch are the
        same.
        """
        return self.step_of(request, tuple(batch.x.shape), lambda: batch)

    def step_of(self, request: Train | Gradient, shape: Shape, batch: Callable[[], Batch]) -> int:
        """FLOPs of a step on a batch of inputs of a shape (B, ...); ``batch`` makes one where it has to be counted."""
        constants = tuple((name, tuple(value.shape)) for name, value in request.constants.items())
        size, *rest = shape
        kind = (request.model, request.loss, request.trainable, _frozen(request), tuple(rest), constants)
        key = (kind, size)
        if key not in self._kept:
            self._kept[key] = self._counted(kind, request, size, batch)
        return self._kept[key]

    def _counted(self, kind: object, request: Train | Gradient, size: int, batch: Callable[[], Batch]) -> int:
        if not _by_rows(request):
            return count_step_flops(request, batch())
        if kind not in self._lines:
            self._lines[kind] = _line(request, batch())
        line = self._lines[kind]
        return count_step_flops(request, batch()) if line is None else line[0] + line[1] * size

    def features(self, model: Buildable, x: Tensor) -> int:
        """FLOPs of one forward pass of a model's features over inputs ``x`` (B, ...)."""
        key = ("features", model, tuple(x.shape))
        if key not in self._kept:
            self._kept[key] = count_feature_flops(model, x)
        return self._kept[key]

    def forward(self, model: Buildable, x: Tensor) -> int:
        """FLOPs of one forward pass of a model over inputs ``x`` (B, ...)."""
        key = ("forward", model, tuple(x.shape))
        if key not in self._kept:
            self._kept[key] = count_forward_flops(model, x)
        return self._kept[key]


COUNTS = FlopCounts()
"""Of this process: what a step costs does not depend on who asks, and a comparison asks for many runs."""


COUNTED = (2, 3, 5)
"""Batch sizes at which steps are counted that grow by so many FLOPs a row: two for the line, one to see that it is."""


def _by_rows(request: Train | Gradient) -> bool:
    """Whether a step's FLOPs are known to be a line over its batch size: models and losses that ship with Strata."""
    model = request.model
    parts = [child for _, child in model.children] if isinstance(model, Joint) else [model]
    return request.loss.__module__.startswith("strata.") and all(
        isinstance(part, ModelSpec) and part.name in MODELS for part in parts
    )


def _line(request: Train | Gradient, batch: Batch) -> tuple[int, int] | None:
    """FLOPs of a step on no rows, and for each row; None where they do not grow so. ``batch`` has one row at least."""
    found = []
    for size in COUNTED:
        x, y = (value[:1].expand(size, *value.shape[1:]) for value in (batch.x, batch.y))
        found.append(count_step_flops(request, Batch(x, y, batch.constants)))
    each = (found[1] - found[0]) // (COUNTED[1] - COUNTED[0])
    first = found[0] - each * COUNTED[0]
    return (first, each) if [first + each * size for size in COUNTED] == found else None


def _frozen(request: Train | Gradient) -> tuple[str, ...]:
    return request.frozen if isinstance(request, Train) else ()


def count_step_flops(request: Train | Gradient, batch: Batch) -> int:
    """FLOPs of a batch, forward and backward, as :mod:`strata.engine.models.flop_counter` counts them.

    The step is made on a fresh copy of the model, where the batch is. An architecture of a search space is the sum of
    parts that were traced before.
    """
    plain = request.loss in (cross_entropy, task_loss) or isinstance(request.loss, SmoothedCrossEntropy)
    if isinstance(request.model, SubnetSpec) and request.trainable is None and plain:
        return cost(request.model, len(batch.y)).flops
    # One thread: the step is so small that threads would mostly wait for each other, for seconds on a busy machine.
    with torch_scope(0), single_thread():
        module = request.model.build().to(batch.x.device)
        set_modes(module, _frozen(request))
        select_trainable(module, request.trainable)
        # A model may change what it is given, which the step itself is still to be given as it is.
        constants = {name: value.to(batch.x.device, copy=True) for name, value in batch.constants.items()}
        with FlopCounter() as counter:
            mean_loss(request.loss, module, Batch(batch.x.clone(), batch.y.clone(), constants)).backward()
    return int(counter.get_total_flops())


def set_modes(module: nn.Module, frozen: Sequence[str]) -> None:
    """Put a module into training mode, and its submodules of those names into evaluation mode.

    Raises:
        ValueError: when there is no such submodule.
    """
    module.train()
    known = dict(module.named_modules())
    for name in frozen:
        if name not in known:
            raise ValueError(f"frozen={name}: the model has no such submodule")
        known[name].eval()


_OPEN: WeakKeyDictionary[nn.Module, frozenset[str]] = WeakKeyDictionary()
"""Parameters that modules had open to training when they were built."""


def select_trainable(module: nn.Module, names: frozenset[str] | None) -> dict[str, nn.Parameter]:
    """Let gradients reach the parameters of those names (None: all) and no others; returns them by name.

    What a model was built with ``requires_grad_(False)`` stays as it is, whatever the names.
    """
    if module not in _OPEN:
        _OPEN[module] = frozenset(name for name, value in module.named_parameters() if value.requires_grad)
    chosen = {}
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in _OPEN[module] and (names is None or name in names))
        if parameter.requires_grad:
            chosen[name] = parameter
    return chosen


def count_feature_flops(model: Buildable, x: Tensor) -> int:
    """FLOPs of one forward pass of a model's features over inputs ``x`` (B, ...); see :func:`count_step_flops`."""
    return _count_forward(model, features_of, x)


def count_forward_flops(model: Buildable, x: Tensor) -> int:
    """FLOPs of one forward pass of a model over inputs ``x`` (B, ...); see :func:`count_step_flops`."""
    return _count_forward(model, lambda module: module, x)


def _count_forward(model: Buildable, part: Callable[[nn.Module], nn.Module], x: Tensor) -> int:
    with torch_scope(0), single_thread():
        module = model.build().to(x.device).eval()
        with torch.no_grad(), FlopCounter() as counter:
            part(module)(x.clone())
    return int(counter.get_total_flops())
