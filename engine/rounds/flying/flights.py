"""The calls that a server's children are on, and in which order these end on the virtual clock.

What a call takes is known before it is made (:mod:`~strata.engine.rounds.costs`), so the order of events does not wait
for training: all that is in flight is trained side by side, and only the head of the queue is waited for. Where a call
turns out longer than it was priced, it goes back into the queue.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Any, Generic

from strata.engine.clock.shared_links import Going
from strata.engine.rounds.pools import Failure, Ticket
from strata.engine.rounds.schedules import R, Tier


@dataclass(eq=False)
class Flight:
    """A call that is in flight.

    Attributes:
        call: as it was handed over, or will be.
        version: how often the server's state had changed by then.
        seconds: virtual ones that it takes; at least these, before it was made.
        age_s: virtual seconds since the child was called.
        ticket: None before it was handed over.
        reply: None before it was waited for.
        going: how far it is where its server's link is shared; else None.
    """

    call: Any
    version: int
    seconds: float
    age_s: float = 0.0
    ticket: Ticket | None = None
    reply: Any = None
    going: Going | None = None

    @property
    def child(self) -> int:
        """Id of the child that is on it."""
        return int(self.call.receiver)

    @property
    def due_s(self) -> float:
        """Virtual seconds from now until it ends; below 0 where it ended before."""
        return self.seconds - self.age_s


class Flights(Generic[R]):
    """Calls that go on each by itself: what one takes is nothing to the others."""

    behind_s: float = 0.0

    def __init__(self) -> None:
        """Nothing is in flight."""
        self._by_child: dict[int, Flight] = {}

    def __iter__(self) -> Iterator[Flight]:
        """All of them, in the order in which the children were called."""
        return iter(self._by_child.values())

    @property
    def children(self) -> Collection[int]:
        """The children that are on a call."""
        return self._by_child.keys()

    def add(self, flight: Flight, priced: R) -> None:
        """A child is called now; ``priced``: its reply as far as it is known before the call is made."""
        self._by_child[flight.child] = flight

    def drop(self, child: int) -> None:
        """Nobody waits for what a child sends any more."""
        del self._by_child[child]

    def restore(self, flights: Iterable[Flight], behind_s: float) -> None:
        """These are in flight, and no others; they have gone on for ``behind_s`` beyond what ``going`` says of them."""
        self._by_child = {flight.child: flight for flight in flights}

    def passed(self, seconds: float) -> None:
        """Virtual seconds have passed beside the exchanges of their server."""
        for flight in self:
            flight.age_s += seconds

    def closed(self, seconds: float) -> None:
        """An exchange, whose events :meth:`ending` gave, has ended so many virtual seconds after it began."""
        self.passed(seconds)

    def ending(self, tier: Tier[R]) -> Iterator[Flight]:
        """Flights as they end, by time and then by child, from now on; each is in flight no more, and has its reply.

        Raises:
            StrataError: what broke a call that was waited for.
        """
        events = [(flight.due_s, child) for child, flight in self._by_child.items()]
        heapify(events)
        while events:
            _, child = heappop(events)
            flight = self._by_child[child]
            if flight.reply is None:
                flight.reply = fetched(tier, flight)
                if flight.reply.seconds != flight.seconds:
                    flight.seconds = flight.reply.seconds
                    heappush(events, (flight.due_s, child))
                    continue
            del self._by_child[child]
            yield flight


def fetched(tier: Tier[R], flight: Flight) -> R:
    """The reply of a call that was handed over, once it is made.

    Raises:
        StrataError: what broke it.
    """
    (result,) = tier.results([flight.ticket])
    if isinstance(result, Failure):
        raise result.error
    return result
