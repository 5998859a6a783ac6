"""What servers make of clients' uploads before the method's step: robust means, and noise in their sum.

Symbols
    n       uploads that are taken in together
    f       of them that may be hostile: the share of n, rounded
    Δ_i     what upload i changed of the model that its sender was sent

``median`` and ``trimmed`` put one change in the place of every Δ_i, coordinate by coordinate their median, or their
mean without the f least and the f largest (Yin et al., arXiv 1803.01498), so that whatever mean the method forms is
that. ``krum`` and ``multi_krum`` (Blanchard et al., NeurIPS 2017) score each upload by the sum of squared distances
from Δ_i to the n − f − 2 changes that lie closest to it, and take the one, or the n − f, of least score. Parts of
uploads that were not sent to their senders before are left as they are.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from strata.engine.errors import ConfigError
from strata.engine.method.messages import Received
from strata.engine.method.mirrors import changes_of, with_changes
from strata.engine.params import Params
from strata.engine.seeding import derive
from strata.engine.transport.wire import noised

MeanName = Literal["none", "median", "trimmed", "krum", "multi_krum"]
Ups = Sequence[Received[object]]


@dataclass(frozen=True)
class Taking:
    """How a server takes in the uploads of its clients.

    Attributes:
        mean: see the module.
        share: of uploads that may be hostile.
        deviation: standard deviation of the noise in the sum of all changes, whose uploads count alike; 0: no noise.
    """

    mean: MeanName = "none"
    share: float = 0.0
    deviation: float = 0.0

    @property
    def is_plain(self) -> bool:
        """Whether uploads reach the method as they came."""
        return self.mean == "none" and not self.deviation

    def hostile(self, uploads: int) -> int:
        """How many of so many uploads may be hostile (f)."""
        return round(self.share * uploads)

    def taken(self, ups: Ups, sent: Mapping[int, object], seed: int) -> Ups:
        """The uploads as the method's step is given them.

        Args:
            ups: those that count, one at least.
            sent: what their senders were sent, by sender.
            seed: of what is drawn.

        Raises:
            ConfigError: for a robust mean of models that are not alike.
        """
        if self.mean != "none":
            ups = self._robust(ups, sent)
        return self._noised(ups, seed) if self.deviation else ups

    def _robust(self, ups: Ups, sent: Mapping[int, object]) -> Ups:
        changes = [changes_of(up.message, sent[up.sender], mirrored_only=True) for up in ups]
        require_alike(self.mean, ups, changes)
        hostile = self.hostile(len(ups))
        if self.mean in ("krum", "multi_krum"):
            places = closest(changes, hostile, 1 if self.mean == "krum" else len(ups) - hostile)
            return [ups[place] for place in places]
        middle = (len(ups) - 1) // 2
        centre = trimmed_mean(changes, middle if self.mean == "median" else min(hostile, middle))
        return [replace(up, message=with_changes(up.message, sent[up.sender], centre)) for up in ups]

    def _noised(self, ups: Ups, seed: int) -> Ups:
        """Each upload with its part of the noise: independent, so that that of the sum has the whole variance."""
        each, after = self.deviation / math.sqrt(len(ups)), []
        for up in ups:
            numbers = noised(changes_of(up.message, None), each, derive(seed, "noise", up.sender))
            after.append(replace(up, message=with_changes(up.message, None, numbers)))
        return after


def require_alike(mean: str, ups: Ups, changes: Sequence[Params]) -> None:
    """Refuse a robust mean of models with other names or shapes, or of none at all.

    Raises:
        ConfigError: naming who sent what.
    """
    shapes = [{path: tuple(change.shape) for path, change in one.items()} for one in changes]
    if not shapes[0]:
        kind = type(ups[0].message).__qualname__
        raise ConfigError(
            f"robust.mean={mean}: an upload of {kind} holds no model that its sender was sent, so there is nothing of "
            "which a robust mean could be formed. Expected one in a field of the same name. Set robust.mean=none."
        )
    for up, other in zip(ups, shapes, strict=True):
        if other != shapes[0]:
            path = next(path for path in {**shapes[0], **other} if shapes[0].get(path) != other.get(path))
            raise ConfigError(
                f"robust.mean={mean}: uploads of clients {ups[0].sender} and {up.sender} differ in {path.lstrip('.')}: "
                f"{shapes[0].get(path, 'none')} and {other.get(path, 'none')}. Expected models of equal shapes. Set "
                "robust.mean=none."
            )


def trimmed_mean(changes: Sequence[Params], cut: int) -> Params:
    """The mean of changes, coordinate by coordinate, without the ``cut`` least and largest; less than half of them.

    What is not a number counts as the largest.
    """
    stacked = {path: torch.stack([one[path] for one in changes]).sort(0).values for path in changes[0]}
    return {path: values[cut : len(changes) - cut].mean(0) for path, values in stacked.items()}


def closest(changes: Sequence[Params], hostile: int, taken: int) -> list[int]:
    """The places, ascending, of the ``taken`` changes of least Krum score, of ``hostile`` that may be hostile."""
    flat = torch.stack([torch.cat([part.double().reshape(-1) for part in one.values()]) for one in changes])
    distances = _squared(flat).nan_to_num(nan=math.inf, posinf=math.inf)
    neighbours = max(1, len(changes) - hostile - 2)
    # Of each row's sorted distances the first is the upload's own, 0.
    scores = distances.fill_diagonal_(-1).sort(1).values[:, 1 : 1 + neighbours].sum(1)
    return sorted(scores.argsort(stable=True)[:taken].tolist())


def _squared(flat: Tensor) -> Tensor:
    """Squared distances of rows, ``(n, n)``."""
    return torch.stack([(flat - row).square().sum(1) for row in flat])
