"""What an upload is worth that began from an older state of its server, and how it enters the present one.

Symbols
    s        staleness of an upload: how often the server's state has changed since the sender was called
    σ(s)     its worth: ``constant`` 1; ``polynomial`` (s + 1)^−a; ``hinge`` 1 for s ≤ b, else 1 / (a (s − b) + 1)

With ``update=model`` the state is mixed with what the method's own step makes of the buffer (FedAsync, Xie, Koyejo and
Gupta, arXiv 1903.03934, for a buffer of one): w ← w + α (step(w, buffer) − w), where α is the share times the mean of
σ(s) over the buffer, weighted by samples. With ``update=change`` each upload is first moved to where it would have
ended, had it begun from the present state (FedBuff, Nguyen et al., arXiv 2106.06639): up ← now + σ(s) (up − then),
where then is what the sender was sent and now what it would be sent; after the step the share alone mixes. That any
method is treated so, leaf by leaf, is ours. Where nothing is stale and the share is 1 there is no arithmetic, so
results are those of synchronous rounds to the bit.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from strata.engine.errors import ConfigError
from strata.engine.method.messages import Received
from strata.engine.method.mirrors import source_of
from strata.engine.tree import alike, field_names

S = TypeVar("S")


@dataclass(frozen=True)
class Mixing:
    """How updates that may be stale enter a server's state.

    Attributes:
        update: ``model`` or ``change``; see above.
        staleness: form of σ; ``exponent`` is its a, ``grace`` its b.
        share: what the buffer counts for against the present state; 1: it replaces it.
    """

    update: Literal["model", "change"] = "model"
    staleness: Literal["constant", "polynomial", "hinge"] = "constant"
    exponent: float = 0.5
    grace: float = 4.0
    share: float = 1.0

    def worth(self, staleness: int) -> float:
        """What an update of this staleness is worth, σ(s); 1 for a fresh one."""
        if self.staleness == "constant":
            return 1.0
        if self.staleness == "polynomial":
            return float((staleness + 1) ** -self.exponent)
        return 1.0 if staleness <= self.grace else 1 / (self.exponent * (staleness - self.grace) + 1)

    def share_of(self, ups: Sequence[Received[object]]) -> float:
        """What the method's step over a buffer, which is not empty, counts for against the state before it."""
        if self.update == "change":
            return self.share
        weights = [up.samples for up in ups] if any(up.samples for up in ups) else [1] * len(ups)
        worths = [self.worth(up.staleness) for up in ups]
        return self.share * sum(n * worth for n, worth in zip(weights, worths, strict=True)) / sum(weights)


def rebased(up: S, then: object, now: object, worth: float) -> S:
    """An upload as if its sender had begun from what it would be sent now: every tensor now + worth · (up − then).

    Args:
        up: the upload, a dataclass; tensors of its own, which were not sent, stay as they are.
        then: what the sender was sent, a dataclass.
        now: what it would be sent now.
        worth: of its change.

    Raises:
        ConfigError: when no part of it is a model that the sender was sent.
    """
    if not dataclasses.is_dataclass(up) or isinstance(up, type):
        return up
    moved: dict[str, object] = {}
    parts = {name: getattr(up, name) for name in field_names(type(up))}
    for name, part in parts.items():
        source = source_of(name, part, then)
        if source is not None:
            moved[name] = _moved(part, getattr(then, source), getattr(now, source), worth)
    if not moved and any(isinstance(part, Tensor) or dataclasses.is_dataclass(part) for part in parts.values()):
        raise ConfigError(
            f"update=change: an upload of {type(up).__qualname__} ({', '.join(parts)}) holds no model that its sender "
            "was sent, so nothing says what it changed. Expected one in a field of the same name. Set update=model."
        )
    return dataclasses.replace(up, **moved) if moved else up


def _moved(up: Any, then: Any, now: Any, worth: float) -> Any:
    if isinstance(up, Mapping):
        return {name: _moved(value, then.get(name), now.get(name), worth) for name, value in up.items()}
    return torch.add(now, up - then, alpha=worth) if alike(then, up) and alike(now, up) else up
