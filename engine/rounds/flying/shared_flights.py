"""Calls of children that share their server's link: how long one takes depends on all that are in flight with it.

Children are called at the beginning of a server's exchange only. So all events of an exchange follow from how far each
call is when it begins, and are reckoned at once; when it has ended, each call is taken on to that moment. What a child
sends, and when, is sure once its call is made. Therefore a call is waited for before its upload begins, for from then
on it is in the way of others; until then it goes on as it was priced, which is how it goes on at least.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from strata.engine.clock.shared_links import Going
from strata.engine.rounds.flying.flights import Flight, Flights, fetched
from strata.engine.rounds.flying.links import Link
from strata.engine.rounds.schedules import R, Tier


class SharedFlights(Flights[R]):
    """The calls of one server's children, on a link that they share."""

    def __init__(self, link: Link[R]) -> None:
        """Nothing is in flight."""
        super().__init__()
        self._link = link
        self.behind_s = 0.0  # seconds that have passed since the moment of which `going` of all but new flights is
        self._new: set[int] = set()
        self._landed: list[Flight] = []  # in the exchange under way, in which they were in the way of others

    def add(self, flight: Flight, priced: R) -> None:
        """A child is called now; its transfers share the link with all that are under way."""
        super().add(flight, priced)
        flight.going = Going.begun(self._link.alone(priced))
        self._new.add(flight.child)

    def restore(self, flights: Iterable[Flight], behind_s: float) -> None:
        """These are in flight, and no others."""
        super().restore(flights, behind_s)
        self.behind_s, self._new, self._landed = behind_s, set(), []

    def passed(self, seconds: float) -> None:
        """Virtual seconds have passed; where calls are by now is seen at the next exchange, which can wait for them."""
        super().passed(seconds)
        self.behind_s += seconds

    def closed(self, seconds: float) -> None:
        """An exchange has ended; nothing that began to upload in it was not waited for."""
        every = [*self, *self._landed]
        for flight, going in zip(every, self._ahead(every, seconds), strict=True):
            flight.going = going
        self._landed = []
        super().passed(seconds)

    def ending(self, tier: Tier[R]) -> Iterator[Flight]:
        """Flights as they end, by time and then by child, from now on; a child that goes off before is lost then.

        Raises:
            StrataError: what broke a call that was waited for.
        """
        self._catch_up(tier)
        every = list(self)
        while self.children:
            ahead = dict(zip(every, self._ahead(every), strict=True))
            due_s = {flight: ahead[flight].spent.total_s - flight.age_s for flight in self}
            for flight in sorted(self, key=lambda one: (due_s[one], one.child)):
                if self._learnt(tier, flight, ahead, due_s[flight]):
                    break  # and look ahead anew
                flight.reply = self._link.ended(flight.reply, ahead[flight])
                flight.seconds = flight.reply.seconds
                self.drop(flight.child)
                self._landed.append(flight)
                yield flight

    def _catch_up(self, tier: Tier[R]) -> None:
        """Take calls that were in flight before this exchange on to its beginning."""
        older = [flight for flight in self if flight.child not in self._new]
        while self.behind_s and older:
            ahead = dict(zip(older, self._ahead(older, self.behind_s, since_s=self.behind_s), strict=True))
            if not self._learnt(tier, None, ahead, self.behind_s):
                for flight, going in ahead.items():
                    flight.going = going
                break
        self.behind_s, self._new = 0.0, set()

    def _learnt(self, tier: Tier[R], head: Flight | None, ahead: dict[Flight, Going], until_s: float) -> bool:
        """Wait for ``head``, and for all that upload by ``until_s``; whether one of them is not as it was priced."""
        differ = False
        for flight, going in ahead.items():
            if flight.reply is None and (flight is head or _uploads_by(flight, going, until_s)):
                flight.reply = fetched(tier, flight)
                whole = self._link.alone(flight.reply)
                assert flight.going is not None
                if whole != flight.going.whole:
                    flight.going, differ = flight.going.corrected(whole), True
        return differ

    def _ahead(self, flights: Sequence[Flight], until_s: float = np.inf, since_s: float = 0.0) -> Sequence[Going]:
        """Flights as they will be, where no others begin.

        Args:
            flights: those that are on the link together.
            until_s: virtual seconds from the moment of which ``going`` is; infinite: until each has ended.
            since_s: virtual seconds that have passed since that moment.
        """
        off_s = [
            self._link.off_after_s(flight.child, flight.call.virtual_s) - (flight.age_s - since_s) for flight in flights
        ]
        stops_s = np.clip(np.array(off_s), 0.0, until_s)
        going = [flight.going for flight in flights if flight.going is not None]
        return self._link.gone_on([flight.child for flight in flights], going, stops_s)


def _uploads_by(flight: Flight, ahead: Going, until_s: float) -> bool:
    assert flight.going is not None
    return ahead.uploads and ahead.until_upload_s - flight.going.until_upload_s <= until_s


def flights_on(link: Link[R] | None) -> Flights[R]:
    """What holds the calls in flight of a server's children; ``link``: None where each has it to itself."""
    return Flights() if link is None else SharedFlights(link)
