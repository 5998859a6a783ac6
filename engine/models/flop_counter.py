"""``torch.utils.flop_counter``, corrected for grouped convolutions.

torch 2.13 counts the weight gradient of a grouped convolution as if it had one group: for a depthwise convolution of C
channels that is C times too much, which makes mobile architectures look ten to twenty times as expensive as they are
(pytorch/pytorch pull request 183405). Both gradients of a convolution take as many multiplications as its forward pass,
whatever the groups.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import conv_flop_count, flop_registry, shape_wrapper


def _convolution_backward(
    grad_shape: Sequence[int], x_shape: Sequence[int], weight_shape: Sequence[int], *others: Any, **_: object
) -> int:
    _bias, _stride, _padding, _dilation, transposed, _output_padding, _groups, wanted = others
    forward = conv_flop_count(list(x_shape), list(weight_shape), list(grad_shape), transposed=transposed)
    return forward * (bool(wanted[0]) + bool(wanted[1]))


class FlopCounter(TorchDispatchMode):
    """Counts the FLOPs of what runs inside ``with``, forward and backward.

    By torch's own formulas. Its ``FlopCounterMode`` would import torch's compiler, two seconds and 70 MB, into every
    process that counts.
    """

    def __init__(self) -> None:
        """Nothing is counted yet."""
        super().__init__()  # type: ignore[no-untyped-call]
        own = shape_wrapper(_convolution_backward)
        self._formulas = {**flop_registry, torch.ops.aten.convolution_backward: own}
        self._total = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # to skip it torch would import it

    def get_total_flops(self) -> int:
        """All FLOPs so far."""
        return self._total

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[object, ...] = (), kwargs: dict[str, object] | None = None
    ) -> object:
        """Run an operation, and count it; one that is made of others is taken apart first."""
        kwargs = kwargs or {}
        formula = self._formulas.get(func._overloadpacket)
        if formula is None:
            with self:
                made = func.decompose(*args, **kwargs)
            return func(*args, **kwargs) if made is NotImplemented else made
        made = func(*args, **kwargs)
        self._total += formula(*args, **kwargs, out_val=made)
        return made
