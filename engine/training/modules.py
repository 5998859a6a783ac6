"""The modules in which one process trains the models of all its clients, one of each architecture."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from cachetools import LRUCache
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from strata.engine.determinism import torch_scope
from strata.engine.models.base import Buildable
from strata.engine.params import Params

MODULES_KEPT = 64
"""Modules that are kept, the last used ones: a search may meet thousands of architectures."""


class Modules:
    """Modules by architecture, each built once and filled with a client's parameters when it is that client's turn."""

    def __init__(
        self, device: torch.device, prepared: Callable[[nn.Module], nn.Module] = lambda module: module
    ) -> None:
        """``device``: where they live; ``prepared``: makes of each that is built what is used."""
        self.device, self._prepared = device, prepared
        self._kept: LRUCache[Buildable, tuple[nn.Module, Params]] = LRUCache(MODULES_KEPT)

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._kept)

    def bare(self, model: Buildable) -> nn.Module:
        """The module of an architecture, with whatever values it has now."""
        return self._entry(model)[0]

    def load(self, model: Buildable, params: Params) -> nn.Module:
        """The module of an architecture, holding ``params``.

        Raises:
            ValueError: when one of the model's parameters is not among them.
        """
        module, counters = self._entry(model)
        held = slots(module)
        require_all(held, params)
        with torch.no_grad():
            for name, value in params.items():
                held[name].copy_(value)
            # What is no parameter (batch norm's counter) starts anew, or one client's would reach the next.
            for name, value in counters.items():
                module.get_buffer(name).copy_(value)
        return module

    def _entry(self, model: Buildable) -> tuple[nn.Module, Params]:
        """The module, and the counters it is built with."""
        if model not in self._kept:
            with torch_scope(0):  # what is drawn is overwritten; the global generator must not move
                module = self._prepared(model.build().to(self.device))
            counters = {name: b.clone() for name, b in module.named_buffers() if not b.is_floating_point()}
            self._kept[model] = module, counters
        return self._kept[model]


def slots(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and floating-point buffers of a module by name, as they are."""
    named: list[tuple[str, Tensor]] = [*module.named_parameters(), *module.named_buffers()]
    return {name: value for name, value in named if value.is_floating_point()}


@contextmanager
def averaging(module: nn.Module) -> Iterator[None]:
    """Inside, a module's batch norm forgets its statistics and takes the plain mean of those of the batches it sees."""
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
    momenta = [part.momentum for part in norms]
    for part in norms:
        part.reset_running_stats()
        part.momentum = None  # torch's way to say: all batches alike
        part.train()
    try:
        yield
    finally:
        for part, momentum in zip(norms, momenta, strict=True):
            part.momentum = momentum
            part.eval()


def require_all(held: dict[str, Tensor], params: Params) -> None:
    """Refuse parameters among which one of the model's is missing.

    Raises:
        ValueError: naming those that are.
    """
    if missing := [name for name in held if name not in params]:
        raise ValueError(f"parameters are missing for the model: {', '.join(missing)}")


def filled(model: Buildable, params: Params) -> nn.Module:
    """A new module of an architecture, on the CPU, that holds ``params``; they are copied.

    Raises:
        ValueError: when one of the model's parameters is not among them.
    """
    return Modules(torch.device("cpu")).load(model, params)
