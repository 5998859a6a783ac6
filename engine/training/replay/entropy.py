"""Cross-entropy in operations that ``vmap`` has a rule for."""

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

PLAIN = {"size_average": None, "ignore_index": -100, "reduce": None, "reduction": "none"}
"""The arguments of ``F.cross_entropy``, beside no weights, for which :func:`of_classes` stands in.

No data set has the class -100.
"""


class Entropy(TorchFunctionMode):
    """While it is entered, ``F.cross_entropy`` of samples' classes is :func:`of_classes`.

    torch's own takes a detour in ``vmap``: a decomposition for whose sake sympy is imported, a quarter of a second and
    40 MB of every process that trains.
    """

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Call a function of torch's, or what stands in for it."""
        given = kwargs or {}
        if func is F.cross_entropy and _is_plain(args, given):
            logits, y = (cast(Tensor, part) for part in args)
            return of_classes(logits, y, cast(float, given.get("label_smoothing", 0.0)))
        return func(*args, **given)


def _is_plain(args: Sequence[object], given: Mapping[str, object]) -> bool:
    """Whether a cross-entropy is that of logits (B, K) and classes (B,), by sample, and nothing else is asked."""
    if len(args) != 2 or given.get("weight") is not None:
        return False
    if any(given.get(name, value) != value for name, value in PLAIN.items()):
        return False
    logits, y = args
    if not isinstance(logits, Tensor) or not isinstance(y, Tensor):
        return False
    return logits.dim() == 2 and y.dim() == 1 and not y.is_floating_point()


def of_classes(logits_BK: Tensor, y_B: Tensor, smoothing: float = 0.0) -> Tensor:
    """The cross-entropy of each sample, (B,), to the bit what ``F.cross_entropy`` gives, with its gradient.

    ``smoothing``: of the mass of the targets, how much is given to all classes alike.
    """
    likely = F.log_softmax(logits_BK, 1)
    missed = -likely.gather(1, y_B[:, None]).squeeze(1)
    if not smoothing:
        return missed
    return (1 - smoothing) * missed + -likely.sum(1) * (smoothing / logits_BK.shape[1])
