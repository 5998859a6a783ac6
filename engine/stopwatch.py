"""Wall seconds that a run itself takes, and where they go. They are for people, and never enter a result.

Every process measures its own work and sends the seconds beside its replies; nothing is compared between two clocks.
"""

import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from time import perf_counter
from typing import Self, TypeVar

T = TypeVar("T")

TRAINING, HANDOVER, SERVER, AGENTS = "training", "hand-over", "server", "agents"
EVALUATION, TRACKING = "evaluation", "tracking"
PARTS = (TRAINING, HANDOVER, SERVER, AGENTS, EVALUATION, TRACKING)
"""What the wall seconds of a round are split into."""

Seconds = Mapping[str, float]
"""Wall seconds by part, of :data:`PARTS`, or by process, as :func:`here` names it."""


class Stopwatch:
    """Adds up the wall seconds of ``with`` blocks, which must not be nested."""

    def __init__(self) -> None:
        """Start at 0 seconds, not running."""
        self.seconds = 0.0
        self._began = 0.0

    def __enter__(self) -> Self:
        """Go on."""
        self._began = perf_counter()
        return self

    def __exit__(self, *exception: object) -> None:
        """Pause."""
        self.seconds += perf_counter() - self._began

    def over(self, items: Iterable[T]) -> Iterator[T]:
        """Give the items, and run while the next one is waited for."""
        iterator = iter(items)
        while True:
            with self:
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    def take(self) -> float:
        """The seconds so far; it stands at 0 afterwards."""
        taken, self.seconds = self.seconds, 0.0
        return taken


@cache
def here() -> str:
    """The name of this process, ``host:pid``, which no other process of a cluster has."""
    return f"{socket.gethostname()}:{os.getpid()}"


@dataclass(frozen=True)
class Spent:
    """Wall seconds that went into some calls of a server's children.

    Attributes:
        trained: of clients, by process: training, and all else that a call takes where its client lives.
        served: of the team servers between, by process, without what they waited for.
        waited_s: of the server, from handing over the calls until it had the last reply.
        own_s: of the server, for its own work before and after.
    """

    trained: Seconds = field(default_factory=dict)
    served: Seconds = field(default_factory=dict)
    waited_s: float = 0.0
    own_s: float = 0.0

    def split(self, wall_s: float) -> dict[str, float]:
        """The parts of what the calls took as seen from the driver; they add up to ``wall_s``, if that is enough.

        A round that went ahead may have begun a little before the driver's clock for it.

        Training is that of the busiest process, which the others are waited for beside. Team servers' work counts where
        it is not hidden behind it, that of the busiest again. The rest is hand-over: serialising, transport,
        and waiting where processes have unequal work.
        """
        training = min(max(self.trained.values(), default=0.0), self.waited_s)
        between = min(max(self.served.values(), default=0.0), self.waited_s - training)
        server = between + self.own_s
        return {TRAINING: training, SERVER: server, HANDOVER: max(0.0, wall_s - training - server)}


def together(parts: Iterable[Spent]) -> Spent:
    """What went into several exchanges, one after the other or side by side, added up process by process."""
    trained: dict[str, float] = {}
    served: dict[str, float] = {}
    waited_s = own_s = 0.0
    for one in parts:
        for total, part in ((trained, one.trained), (served, one.served)):
            for name, seconds in part.items():
                total[name] = total.get(name, 0.0) + seconds
        waited_s += one.waited_s
        own_s += one.own_s
    return Spent(trained, served, waited_s, own_s)
