"""Max pooling on a CPU by torch's kernel for channels last, to the bit what it gives for channels first.

torch compares value by value where channels come first, and a vector of channels at a time where they come last. A
third of a small convolutional net's training is the former; to turn what is pooled around and back costs less.

# B batch, C channels, H·W and H'·W' an image before and after
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.fx import Graph

ATEN = torch.ops.aten

LEAST_CHANNELS = 8
"""Of fewer, a vector stays half empty."""

LEAST_VALUES = 2**15
"""Of fewer, turning them around takes as long as it saves."""

AT_ONCE, WHOLE = 2**17, 2**18
"""Values that are turned around at a time, so that they are in the processor's cache when they are compared; of no
more than so many, all."""


def max_pool(x: Tensor, *how: Any) -> tuple[Tensor, Tensor]:
    """``aten.max_pool2d_with_indices``: the largest values of each window, and where they are, (B, C, H', W') both.

    ``how``: kernel, and if given stride, padding, dilation and whether windows may begin where less than one is left.
    """
    if not _pays(x):
        largest, places = ATEN.max_pool2d_with_indices(x, *how)
        return largest, places
    if x.numel() <= WHOLE:
        largest, places = _turned(x, how)
        return largest.contiguous(), places.contiguous()
    begin = 0
    for part in x.split(max(1, AT_ONCE // x[0].numel())):
        made = _turned(part, how)
        if not begin:
            largest, places = (one.new_empty((len(x), *one.shape[1:])) for one in made)
        for whole, one in zip((largest, places), made, strict=True):
            whole[begin : begin + len(part)] = one
        begin += len(part)
    return largest, places


def _pays(x: Tensor) -> bool:
    if is_functorch_wrapped_tensor(x):  # by a loss that takes derivatives of its own
        return False
    on_cpu = x.device.type == "cpu" and x.dtype == torch.float32 and x.dim() == 4 and x.is_contiguous()
    return on_cpu and x.shape[1] >= LEAST_CHANNELS and x.numel() >= LEAST_VALUES


def _turned(x: Tensor, how: Sequence[Any]) -> tuple[Tensor, Tensor]:
    largest, places = ATEN.max_pool2d_with_indices(x.contiguous(memory_format=torch.channels_last), *how)
    return largest, places


def with_pooling(graph: Graph) -> None:
    """Let a recorded graph pool by :func:`max_pool`."""
    for node in graph.nodes:
        if node.target == ATEN.max_pool2d_with_indices.default:
            node.target = max_pool


class _MaxPool(torch.autograd.Function):
    """:func:`max_pool` with a gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, how: Sequence[Any]) -> Tensor:
        largest, places = max_pool(x, *how)
        ctx.save_for_backward(x, places)
        ctx.how = how
        return largest

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        x, places = ctx.saved_tensors
        by_x: Tensor = ATEN.max_pool2d_with_indices_backward(*gradients, x, *ctx.how, places)
        return by_x, None


class MaxPool2d(nn.MaxPool2d):
    """torch's, by :func:`max_pool` where that pays."""

    def forward(self, x: Tensor) -> Tensor:
        """The largest values of each window, (B, C, H', W')."""
        if self.return_indices or not _pays(x):
            return cast(Tensor, super().forward(x))
        sizes = [_two(one) for one in (self.kernel_size, self.stride, self.padding, self.dilation)]
        return _pooled(x, (*sizes, self.ceil_mode))


class MaxPool1d(nn.MaxPool1d):
    """torch's, by :func:`max_pool` where that pays."""

    def forward(self, x: Tensor) -> Tensor:
        """The largest values of each window, (B, C, L')."""
        flat = x.unsqueeze(2)
        if self.return_indices or not torch.is_grad_enabled() or not _pays(flat):  # without gradients torch is as fast
            return cast(Tensor, super().forward(x))
        given = zip((self.kernel_size, self.stride, self.padding, self.dilation), (1, 1, 0, 1), strict=True)
        sizes = [[across, *_two(one)[:1]] for one, across in given]
        return _pooled(flat, (*sizes, self.ceil_mode)).squeeze(2)


def _two(size: int | tuple[int, ...]) -> list[int]:
    return [size, size] if isinstance(size, int) else list(size)


def _pooled(x: Tensor, how: Sequence[Any]) -> Tensor:
    return cast(Tensor, _MaxPool.apply(x, how))  # type: ignore[no-untyped-call]


QUICKER: dict[type[nn.Module], type[nn.Module]] = {nn.MaxPool1d: MaxPool1d, nn.MaxPool2d: MaxPool2d}


def quickened(module: nn.Module) -> nn.Module:
    """The module itself, whose layers of torch's max pooling are those of this module from now on."""
    for part in module.modules():
        if type(part) in QUICKER:
            part.__class__ = QUICKER[type(part)]
    return module
