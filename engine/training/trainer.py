"""What a trainer is: it answers the requests of :mod:`strata.engine.method.requests`, of several clients at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from strata.engine.data.dataset import IntArray
from strata.engine.errors import StrataError
from strata.engine.method.requests import Answer, Request, Work


@dataclass(frozen=True)
class Asked:
    """One request of one client.

    Attributes:
        request: what is asked for.
        rows: of the client's data that it is about, ``(n,)``.
        seed: this request's own.
        where: who asks, for errors, e.g. ``client 3 (team 1), round 7``.
        work: of the client's whole call, to which the answer adds.
    """

    request: Request
    rows: IntArray
    seed: int
    where: str
    work: Work


@dataclass(frozen=True)
class Broken:
    """What came of a request, or of a whole conversation, that broke: its error, kept so that others can go on."""

    error: StrataError


class Trainer(Protocol):
    """What answers the requests of methods, of several clients at once."""

    def answer(self, asked: Sequence[Asked]) -> Sequence[Answer | Broken]:
        """One answer for each request, in their order; no two of them are of the same client call."""
