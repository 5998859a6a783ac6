"""What a server refuses of an upload: what is not of the shape that was sent, and numbers that are none."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from strata.engine.errors import TrainingError
from strata.engine.method.merging import Outline, single
from strata.engine.method.messages import Received
from strata.engine.tree import leaves

SHAPED = (Tensor, Outline)  # as a tuple: to ask for a union takes three times as long, and there are many uploads


def require_shapes(up: object, sent: object, sender: str) -> None:
    """Refuse an upload in which a model's tensor has another shape than its sender was sent it in.

    Looked at are fields of one name in both; what an upload holds beside them is the method's own. An upload may have
    outlines in the places of its tensors.

    Raises:
        TrainingError: naming the sender, the tensor, its shape and the one expected.
    """
    there: Mapping[str, Any] = getattr(sent, "__dict__", {})
    for name, part in getattr(up, "__dict__", {}).items():
        model = there.get(name)
        if not isinstance(part, Mapping) or not isinstance(model, Mapping):
            continue
        for key, value in part.items():
            before = model.get(key)
            if isinstance(before, Tensor) and isinstance(value, SHAPED) and value.shape != before.shape:
                raise TrainingError(
                    f"{sender}: its upload's {name}.{key} has the shape {tuple(value.shape)}, expected "
                    f"{tuple(before.shape)}, as it was sent. Mend what the method's client_step uploads."
                )


def require_finite(after: object, ups: Sequence[Received[object]], names: str) -> None:
    """Refuse uploads with numbers that are not finite, once they have reached a server's state.

    The state is looked at first: it is one where uploads are many. Those that were merged are finite.

    Raises:
        TrainingError: naming the first such sender, ``names`` with its id, and the tensor.
    """
    if _infinite(after) is None:
        return
    for up in single(ups):
        found = _infinite(up.message)
        if found is not None:
            raise TrainingError(
                f"{names.format(up.sender)}: its upload's {found} is not finite. Lower the learning rate or the pull, "
                "or mend what the method computes beside its requests."
            )


def _infinite(tree: object) -> str | None:
    """Where the first tensor lies that is not finite; None where all are."""
    floats = ((path, leaf) for path, leaf in leaves(tree) if isinstance(leaf, Tensor) and leaf.is_floating_point())
    # A sum that is finite has no part that is not; to look at each value takes thirty times as long.
    return next((path for path, leaf in floats if not leaf.sum().isfinite() and not leaf.isfinite().all()), None)
