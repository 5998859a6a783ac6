"""Cross-entropy in operations that ``vmap`` has a rule for."""

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

PLAIN = {"size_average": None, "ignore_index": -100, "reduce": None, "reduction": "none"}
"""The arguments of ``F.cross_entropy``, beside no weights, for which :func:`of_classes` stands in."""


class Entropy(TorchFunctionMode):
    """While it is entered, ``F.cross_entropy`` of samples' own classes is :func:`of_classes`.

    torch's own takes a detour in ``vmap``: a decomposition for whose sake sympy is imported, a quarter of a second and
    40 MB of every process that trains. What a loss makes of the classes is left to torch: it may hold -100 for what
    does not count, which no data set does.
    """

    def __init__(self, classes: Tensor) -> None:
        """``classes``: of a batch's samples, the very tensor that a loss is given."""
        super().__init__()
        self._classes = classes

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Call a function of torch's, or what stands in for it."""
        given = kwargs or {}
        if func is F.cross_entropy and len(args) == 2 and args[1] is self._classes and _is_plain(args[0], given):
            smoothing = cast(float, given.get("label_smoothing", 0.0))
            return of_classes(cast(Tensor, args[0]), self._classes, smoothing)
        return func(*args, **given)


def _is_plain(logits: object, given: Mapping[str, object]) -> bool:
    """Whether a cross-entropy is that of logits (B, K), sample by sample, and nothing else is asked."""
    plain = given.get("weight") is None and all(given.get(name, value) == value for name, value in PLAIN.items())
    return plain and isinstance(logits, Tensor) and logits.dim() == 2


def of_classes(logits_BK: Tensor, y_B: Tensor, smoothing: float = 0.0) -> Tensor:
    """The cross-entropy of each sample, (B,), to the bit what ``F.cross_entropy`` gives, with its gradient.

    ``smoothing``: of the mass of the targets, how much is given to all classes alike.
    """
    likely = F.log_softmax(logits_BK, 1)
    missed = -likely.gather(1, y_B[:, None]).squeeze(1)
    if not smoothing:
        return missed
    return (1 - smoothing) * missed + -likely.sum(1) * (smoothing / logits_BK.shape[1])
