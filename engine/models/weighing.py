"""What the tensors of a module take, known before they are made."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from strata.engine.data.capacity import require_memory

COPIES = 4
"""Of a model that is trained there are its start, its parameters, their gradient, and what is sent."""

VALUE_BYTES = 4  # of a float32

MAKERS = frozenset({torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn})
"""What makes the tensors of modules."""


@contextmanager
def weighed(what: str, remedy: str) -> Iterator[None]:
    """Weigh the tensors that modules make in this block, and refuse the one for which there is no memory.

    Args:
        what: is made, for the error.
        remedy: what to do about it.

    Raises:
        ResourceError: before that tensor is made.
    """
    with _Scale(
        lambda values: require_memory(COPIES * VALUE_BYTES * values, f"{what}, {values:.3g} values or more", remedy)
    ):
        yield


class _Scale(TorchFunctionMode):
    """Adds up the values of the tensors that are made, and asks before each whether so many may be."""

    def __init__(self, ask: Callable[[int], None]) -> None:
        super().__init__()
        self._ask, self._values = ask, 0

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in MAKERS:
            size = kwargs.get("size", args[0] if args and isinstance(args[0], Sequence) else args)
            with suppress(TypeError):  # what is no size is refused by who makes it
                self._values += math.prod(size)
            self._ask(self._values)
        return func(*args, **kwargs)
