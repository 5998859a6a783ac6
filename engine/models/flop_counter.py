"""``torch.utils.flop_counter``, corrected for grouped convolutions.

torch 2.13 counts the weight gradient of a grouped convolution as if it had one group: for a depthwise convolution of C
channels that is C times too much, which makes mobile architectures look ten to twenty times as expensive as they are
(pytorch/pytorch pull request 183405). Both gradients of a convolution take as many multiplications as its forward pass,
whatever the groups.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count


def _convolution_backward(
    grad_shape: Sequence[int], x_shape: Sequence[int], weight_shape: Sequence[int], *others: Any, **_: object
) -> int:
    _bias, _stride, _padding, _dilation, transposed, _output_padding, _groups, wanted = others
    forward = conv_flop_count(list(x_shape), list(weight_shape), list(grad_shape), transposed=transposed)
    return forward * (bool(wanted[0]) + bool(wanted[1]))


class FlopCounter(FlopCounterMode):
    """Counts the FLOPs of what runs inside ``with``, forward and backward; see ``get_total_flops``."""

    def __init__(self) -> None:
        """Count without printing a table; gradients of convolutions are counted as this module says."""
        super().__init__(display=False, custom_mapping={torch.ops.aten.convolution_backward: _convolution_backward})
