"""A server that does not wait for all its children: it takes uploads in the order of virtual time, and goes on.

A step of the server is a round. At its start as many children are called as are missing to ``concurrency``, drawn from
those that are there and not on a call. Then events are taken in the order of their virtual seconds, and of the ids of
the children where these are equal, until ``buffer`` uploads are in, or nothing is in flight any more; with them the
server makes its step. A child that came back is called again, or another in its place, at the start of the next step,
not at once: so nobody is sent the same state twice, agents decide once a step, and with ``buffer = concurrency`` the
step is a synchronous round, to the bit.
"""

from collections.abc import Collection, Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

from strata.engine.rounds.flying.flights import Flight, Flights
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


class Buffered:
    """The server makes its step as soon as ``buffer`` uploads are in; those staler than ``max_staleness`` are dropped.

    A lost child takes its time, and fills no place of the buffer; neither does what is dropped.
    """

    def __init__(self, buffer: int, max_staleness: int = UNBOUNDED, flights: Flights[Any] | None = None) -> None:
        """Nothing is in flight; ``flights`` holds what will be, by default each call by itself."""
        self._buffer, self._max_staleness = buffer, max_staleness
        self._version = 0
        self._flights: Flights[Any] = Flights() if flights is None else flights
        self._gone = 0  # calls of children that have gone elsewhere since the last step

    @property
    def away(self) -> Collection[int]:
        """Children that are on a call."""
        return self._flights.children

    def passed(self, seconds: float) -> None:
        """Let what is in flight go on for some virtual seconds."""
        self._flights.passed(seconds)

    def renewed(self) -> None:
        """The server's state was changed beside the steps: what is in flight is staler by one."""
        self._version += 1

    def dropped(self, staying: Collection[int]) -> None:
        """What children send that are the server's no more is not waited for; it is counted with the next step."""
        for child in [child for child in self._flights.children if child not in staying]:
            self._flights.drop(child)
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
            priced = tier.priced(call)
            self._flights.add(Flight(call, self._version, priced.seconds), priced)
        waiting = [flight for flight in self._flights if flight.ticket is None]
        for flight, ticket in zip(waiting, tier.submit([flight.call for flight in waiting]), strict=True):
            flight.ticket = ticket
        yield
        ended = list(self._ended(tier))
        seconds = max([0.0, *(flight.due_s for flight in ended)])
        step = self._taken_in(tier, state, moment, sorted(ended, key=lambda flight: flight.call.receiver), seconds)
        self._version += bool(step.ups)
        self._flights.closed(seconds)
        return step

    def _ended(self, tier: Tier[R]) -> Iterator[Flight]:
        """The calls that end in a step, in the order of their ends; they are in flight no more."""
        counted = 0
        for flight in self._flights.ending(tier):
            yield flight
            counted += flight.reply.arrived and not self._is_stale(flight)
            if counted == self._buffer:
                return

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
        tier.settle([flight.call for flight in ended if flight.reply.changed], moment)
        dropped = [flight for flight in came if self._is_stale(flight)]
        gap = Gap(
            idle_s=sum(seconds - flight.due_s for flight in came),
            staleness={stale: staleness.count(stale) for stale in sorted(set(staleness))},
            stale=len(dropped) + self._gone,
            in_flight=len(self._flights.children),
        )
        self._gone = 0
        replies = [flight.reply.stale() if flight in dropped else flight.reply for flight in ended]
        return Step(after, seconds, replies, [flight.reply for flight in counted], ups, gap)

    def capture(self) -> Aloft:
        """What is in flight, as calls that are to be made anew; a message that several were sent is held once."""
        messages: dict[int, object] = {}
        places: dict[int, int] = {}
        calls = []
        for flight in sorted(self._flights, key=lambda one: one.child):
            down = flight.call.down
            messages[places.setdefault(id(down), len(places))] = down
            flying = flight.call.flying(places[id(down)], flight.seconds, flight.age_s, flight.version)
            calls.append(replace(flying, going=flight.going))
        return Aloft(self._version, list(messages.values()), calls, self._flights.behind_s)

    def restore(self, aloft: Aloft, remade: Remade) -> None:
        """Take up again what :meth:`capture` gave; calls are handed over with the next step."""
        self._version = aloft.version
        flights = [
            Flight(remade(one, aloft.messages[one.message]), one.version, one.seconds, one.age_s, going=one.going)
            for one in aloft.calls
        ]
        self._flights.restore(flights, aloft.behind_s)


def schedule_of(plan: TierPlan, flights: Flights[Any] | None = None) -> Schedule:
    """The schedule that a tier's configuration asks for: a buffer, a deadline, waiting for all, or a given one.

    ``flights`` holds what is in flight where it does not wait for all.
    """
    if plan.mode == "given":
        own: Schedule = deepcopy(plan.schedule)
        return own
    if plan.mode == "async":
        return Buffered(plan.buffer, plan.max_staleness, flights)
    return Deadline(plan.deadline_s) if plan.mode == "deadline" else Synchronous()
