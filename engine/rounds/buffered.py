"""A server that does not wait for all its children: it takes uploads in the order of virtual time, and goes on.

A step of the server is a round. At its start as many children are called as are missing to ``concurrency``, drawn from
those that are there and not on a call. Then events are taken in the order of their virtual seconds, and of the ids of
the children where these are equal, until ``buffer`` uploads are in, or nothing is in flight any more; with them the
server makes its step. A child that came back is called again, or another in its place, at the start of the next step,
not at once: so nobody is sent the same state twice, agents decide once a step, and with ``buffer = concurrency`` the
step is a synchronous round, to the bit.

What a call takes is known before it is made (:mod:`~.costs`), so the order of events does not wait for training: all
that is in flight is trained side by side, and only the head of the queue is waited for. Where a call turns out longer
than it was priced, it goes back into the queue.
"""

from collections.abc import Collection, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Any

from strata.engine.rounds.pools import Failure, Ticket
from strata.engine.rounds.schedules import (
    Deadline,
    Gap,
    Moment,
    Pausing,
    R,
    Remade,
    Schedule,
    Step,
    Synchronous,
    Tier,
    at_once,
)
from strata.engine.rounds.world import TierPlan
from strata.engine.state.snapshot import Aloft

UNBOUNDED = -1


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
    """

    call: Any
    version: int
    seconds: float
    age_s: float = 0.0
    ticket: Ticket | None = None
    reply: Any = None

    @property
    def due_s(self) -> float:
        """Virtual seconds from the start of the exchange until it ends; below 0 where it ended before."""
        return self.seconds - self.age_s


class Buffered:
    """The server makes its step as soon as ``buffer`` uploads are in; those staler than ``max_staleness`` are dropped.

    A lost child takes its time, and fills no place of the buffer; neither does what is dropped.
    """

    def __init__(self, buffer: int, max_staleness: int = UNBOUNDED) -> None:
        """Nothing is in flight."""
        self._buffer, self._max_staleness = buffer, max_staleness
        self._version = 0
        self._flights: dict[int, Flight] = {}
        self._gone = 0  # calls of children that have gone elsewhere since the last step

    @property
    def away(self) -> Collection[int]:
        """Children that are on a call."""
        return self._flights.keys()

    def passed(self, seconds: float) -> None:
        """Let what is in flight go on for some virtual seconds."""
        for flight in self._flights.values():
            flight.age_s += seconds

    def renewed(self) -> None:
        """The server's state was changed beside the steps: what is in flight is staler by one."""
        self._version += 1

    def dropped(self, staying: Collection[int]) -> None:
        """What children send that are the server's no more is not waited for; it is counted with the next step."""
        for child in [child for child in self._flights if child not in staying]:
            del self._flights[child]
            self._gone += 1

    def step(self, tier: Tier[R], state: object, moment: Moment) -> Step[R]:
        """One step of the server.

        Raises:
            StrataError: what broke a call that it waited for.
        """
        return at_once(self.exchange(tier, state, moment))

    def exchange(self, tier: Tier[R], state: object, moment: Moment) -> Pausing[Step[R]]:
        """The step that :meth:`step` makes, with a pause once the children are called.

        Raises:
            StrataError: what broke a call that it waited for.
        """
        for call in tier.calls(tier.invite(moment, self.away), state, moment):
            self._flights[call.receiver] = Flight(call, self._version, tier.price_s(call))
        waiting = [flight for flight in self._flights.values() if flight.ticket is None]
        for flight, ticket in zip(waiting, tier.submit([flight.call for flight in waiting]), strict=True):
            flight.ticket = ticket
        yield
        ended = list(self._ended(tier))
        seconds = max([0.0, *(flight.due_s for flight in ended)])
        step = self._taken_in(tier, state, moment, sorted(ended, key=lambda flight: flight.call.receiver), seconds)
        self._version += bool(step.ups)
        self.passed(seconds)
        return step

    def _ended(self, tier: Tier[R]) -> Iterator[Flight]:
        """The calls that end in a step, in the order of their ends; they are in flight no more."""
        events = [(flight.due_s, child) for child, flight in self._flights.items()]
        heapify(events)
        counted = 0
        while events and counted < self._buffer:
            _, child = heappop(events)
            flight = self._flights[child]
            if flight.reply is None:
                flight.reply = _fetched(tier, flight)
                if flight.reply.seconds != flight.seconds:
                    flight.seconds = flight.reply.seconds
                    heappush(events, (flight.due_s, child))
                    continue
            del self._flights[child]
            counted += flight.reply.arrived and not self._is_stale(flight)
            yield flight

    def _is_stale(self, flight: Flight) -> bool:
        return self._max_staleness != UNBOUNDED and self._version - flight.version > self._max_staleness

    def _taken_in(
        self, tier: Tier[R], state: object, moment: Moment, ended: Sequence[Flight], seconds: float
    ) -> Step[R]:
        """The step that the server makes with the calls that ended in it, ordered by child."""
        came = [flight for flight in ended if flight.reply.arrived]
        counted = [flight for flight in came if not self._is_stale(flight)]
        staleness = [self._version - flight.version for flight in counted]
        ups = [tier.received(f.call, f.reply, state, stale) for f, stale in zip(counted, staleness, strict=True)]
        after = tier.aggregate(state, ups, moment) if ups else state
        tier.settle([flight.call for flight in ended], moment)
        dropped = [flight for flight in came if self._is_stale(flight)]
        gap = Gap(
            idle_s=sum(seconds - flight.due_s for flight in came),
            staleness={stale: staleness.count(stale) for stale in sorted(set(staleness))},
            stale=len(dropped) + self._gone,
            in_flight=len(self._flights),
        )
        self._gone = 0
        replies = [flight.reply.stale() if flight in dropped else flight.reply for flight in ended]
        return Step(after, seconds, replies, [flight.reply for flight in counted], ups, gap)

    def capture(self) -> Aloft:
        """What is in flight, as calls that are to be made anew; a message that several were sent is held once."""
        messages: dict[int, object] = {}
        places: dict[int, int] = {}
        calls = []
        for child in sorted(self._flights):
            flight = self._flights[child]
            down = flight.call.down
            messages[places.setdefault(id(down), len(places))] = down
            calls.append(flight.call.flying(places[id(down)], flight.seconds, flight.age_s, flight.version))
        return Aloft(self._version, list(messages.values()), calls)

    def restore(self, aloft: Aloft, remade: Remade) -> None:
        """Take up again what :meth:`capture` gave; calls are handed over with the next step."""
        self._version = aloft.version
        self._flights = {
            one.receiver: Flight(remade(one, aloft.messages[one.message]), one.version, one.seconds, one.age_s)
            for one in aloft.calls
        }


def _fetched(tier: Tier[R], flight: Flight) -> R:
    (result,) = tier.results([flight.ticket])
    if isinstance(result, Failure):
        raise result.error
    return result


def schedule_of(plan: TierPlan) -> Schedule:
    """The schedule that a tier's configuration asks for: a buffer, a deadline, to wait for all, or a given one."""
    if plan.mode == "given":
        own: Schedule = deepcopy(plan.schedule)
        return own
    if plan.mode == "async":
        return Buffered(plan.buffer, plan.max_staleness)
    return Deadline(plan.deadline_s) if plan.mode == "deadline" else Synchronous()
