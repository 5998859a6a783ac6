"""How a server gathers its children, of either tier: who is invited, who is waited for, what becomes of the rest."""

from dataclasses import dataclass
from typing import Literal

from strata.engine.errors import ConfigError
from strata.engine.options import Validated, option


@dataclass(frozen=True)
class Gathering(Validated):
    """What the groups ``clients`` and ``teams`` have in common."""

    count: int = option(1, "how many there are", ge=1)
    participation: float = option(1.0, "share of them that is invited per round, at least one", gt=0, le=1)
    mode: Literal["sync", "deadline", "async", "given"] = option(
        "sync",
        "sync waits for all; deadline drops and counts late uploads; async goes on as soon as buffer uploads are in, "
        "and a round is that; given (in Python)",
    )
    deadline_s: float = option(0.0, "deadline: virtual seconds after which an upload is late", ge=0)
    concurrency: int = option(
        0, "async: how many are on a call at a time, at most all; 0: as many as participation says", ge=0
    )
    buffer: int = option(1, "async: uploads per step of the server, at most the concurrency", ge=1)
    update: Literal["model", "change"] = option(
        "model", "async: mix models as they come (FedAsync), or add what they changed of what was sent (FedBuff)"
    )
    mixing: float = option(1.0, "async: share of a step against the server's state; 1: all of it", gt=0)
    staleness: Literal["constant", "polynomial", "hinge"] = option(
        "constant",
        "async: what an upload is worth if the state changed s times since: 1; (s + 1)^−exponent; or 1 up to the grace "
        "b, then 1 / (exponent · (s − b) + 1)",
    )
    staleness_exponent: float = option(0.5, "async: the exponent of polynomial, the slope of hinge", ge=0)
    staleness_grace: float = option(4.0, "async: the grace of hinge", ge=0)
    max_staleness: int = option(-1, "async: what is staler is dropped and counted; -1: nothing is", ge=-1)

    def validate(self, path: str) -> None:
        """Refuse what cannot work; ``path`` prefixes the keys in errors.

        Raises:
            ConfigError: for mode=deadline without a deadline, or a buffer that never fills.
        """
        if self.mode == "deadline" and self.deadline_s <= 0:
            raise ConfigError(
                f"{path}deadline_s={self.deadline_s:g}: {path}mode=deadline needs a deadline > 0 virtual seconds."
            )
        if self.mode == "async" and self.concurrency:
            self.require_buffer(path, self.concurrency, f"{path}concurrency={self.concurrency}")

    def require_buffer(self, path: str, most: int, why: str) -> None:
        """Refuse a buffer that never fills.

        Args:
            path: prefixes the keys in errors.
            most: how many can be on a call at a time.
            why: says where that comes from.

        Raises:
            ConfigError: naming the buffer and what was expected.
        """
        if self.buffer > most:
            raise ConfigError(
                f"{path}buffer={self.buffer} is out of range: with {why}, expected ≥ 1 and ≤ {most}: no more uploads "
                "are on their way at a time."
            )
