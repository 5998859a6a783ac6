"""Convolutions of many clients as products of matrices, for GPUs.

``vmap`` makes the convolutions of N clients a single one in N groups, for which cuDNN has slow kernels only. Here each
client's patches are laid out as columns (im2col), and all clients' products are one batched one. On a CPU the copies
cost more than they save.

# N clients, P rows, C and O channels in and out, K·L a kernel, H·W and H'·W' an image before and after
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx import Graph, Node

ATEN = torch.ops.aten
LEAST_CHANNELS = 4
"""Channels out from which products pay; what has fewer, as a depthwise convolution has, is left to cuDNN."""


def with_products(graph: Graph) -> None:
    """Replace those convolutions of a recorded graph, and their gradients, that :func:`convolve` can make."""
    for node in graph.nodes:
        if node.target == ATEN.convolution.default and _fits(node.args[1], node.args[2:]):
            node.target = convolve
        elif node.target == ATEN.convolution_backward.default and _fits(node.args[2], node.args[3:]):
            node.target = convolve_backward


def _fits(weight: object, rest: Sequence[object]) -> bool:
    """Whether it is a flat convolution in several groups, with neither bias nor stride nor dilation."""
    assert isinstance(weight, Node)
    bias, stride, padding, dilation, transposed, _, groups = rest[:7]
    shape = weight.meta["shape"]
    if len(shape) != 4 or bias is not None or transposed or groups == 1:
        return False
    plain = stride == [1, 1] and dilation == [1, 1]
    small = isinstance(padding, list) and all(pad < size for pad, size in zip(padding, shape[2:], strict=True))
    return plain and small and shape[0] // int(groups) >= LEAST_CHANNELS  # type: ignore[call-overload]


def convolve(x: Tensor, weight: Tensor, bias: None, stride: object, padding: list[int], *rest: object) -> Tensor:
    """``aten.convolution`` in N groups, of x ``(P, N·C, H, W)`` and a weight ``(N·O, C, K, L)``; ``(P, N·O, H', W')``.

    Stride and dilation are 1, and the padding is less than the kernel.
    """
    groups = _groups(rest)
    columns, size = _columns(x, groups, weight.shape[2:], padding)
    return _rows_first(torch.bmm(weight.reshape(groups, -1, columns.shape[1]), columns), len(x), size)


def convolve_backward(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    bias_sizes: None,
    stride: object,
    padding: list[int],
    *rest: object,
) -> tuple[Tensor | None, Tensor | None, None]:
    """The gradients of :func:`convolve` by x and by the weight, as far as the mask asks for them, last in ``rest``."""
    *others, mask = rest
    groups = _groups(others)
    by_x = by_weight = None
    kernel = weight.shape[2:]
    if mask[0]:  # type: ignore[index]
        # The convolution of the gradient with the kernels turned by half a turn, channels in and out exchanged.
        turned = weight.reshape(groups, -1, *weight.shape[1:]).flip(3, 4).transpose(1, 2)
        around = [size - 1 - pad for size, pad in zip(kernel, padding, strict=True)]
        columns, size = _columns(gradient, groups, kernel, around)
        by_x = _rows_first(torch.bmm(turned.reshape(groups, -1, columns.shape[1]), columns), len(x), size)
    if mask[1]:  # type: ignore[index]
        columns, _ = _columns(x, groups, kernel, padding)
        flat = gradient.reshape(len(x), groups, -1, gradient.shape[2] * gradient.shape[3])
        rows = flat.permute(1, 2, 0, 3).reshape(groups, flat.shape[2], -1)
        by_weight = torch.bmm(rows, columns.transpose(1, 2)).view(weight.shape)
    return by_x, by_weight, None


def _groups(rest: Sequence[object]) -> int:
    groups = rest[-1]
    assert isinstance(groups, int)
    return groups


def _columns(x: Tensor, groups: int, kernel: Sequence[int], padding: Sequence[int]) -> tuple[Tensor, tuple[int, int]]:
    """The patches of x ``(P, N·C, H, W)``, ``(N, C·K·L, P·H'·W')``, and ``(H', W')``."""
    high, wide = padding
    padded = F.pad(x, (wide, wide, high, high)).view(len(x), groups, -1, x.shape[2] + 2 * high, x.shape[3] + 2 * wide)
    patches = padded.unfold(3, kernel[0], 1).unfold(4, kernel[1], 1)  # (P, N, C, H', W', K, L)
    size = patches.shape[3], patches.shape[4]
    laid = patches.permute(1, 2, 5, 6, 0, 3, 4)
    return laid.reshape(groups, padded.shape[2] * kernel[0] * kernel[1], -1), size


def _rows_first(made: Tensor, rows: int, size: tuple[int, int]) -> Tensor:
    """What was made ``(N, O, P·H'·W')`` as ``(P, N·O, H', W')``, laid out as torch's own convolution does."""
    apart = made.view(made.shape[0] * made.shape[1], rows, *size)
    return apart.transpose(0, 1).contiguous()
