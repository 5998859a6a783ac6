"""When a server exchanges with its children and when it closes the exchange: the rules of every tier.

A tier is a server with its children: a team with its clients, the global server with its clients or its teams. A
schedule knows nothing of what the children are or how they are reached.
"""

from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from strata.engine.method.messages import Received
from strata.engine.method.situation import Decisions
from strata.engine.rounds.pools import Failure, Ticket
from strata.engine.rounds.records import ASYNC, IN_FLIGHT
from strata.engine.state.snapshot import Aloft, Flying
from strata.engine.stopwatch import Stopwatch


class Reply(Protocol):
    """What a child answered; see the replies of :mod:`strata.engine.rounds.pools`."""

    @property
    def sender(self) -> int:
        """Id of the child that answered."""

    @property
    def seconds(self) -> float:
        """Virtual seconds until the server had the child's upload, or knew that the child was lost."""

    @property
    def arrived(self) -> bool:
        """Whether there is an upload; there is none of a lost client, nor of a team that nobody answered."""

    def late(self) -> Self:
        """The reply marked as dropped by a deadline."""

    def stale(self) -> Self:
        """The reply marked as dropped because the server has moved on too far since."""


class Called(Protocol):
    """A call of a child; see the calls of :mod:`strata.engine.rounds.pools`."""

    @property
    def receiver(self) -> int:
        """Id of the child that is called."""

    def flying(self, message: int, seconds: float, age_s: float, version: int) -> Flying:
        """The call as a checkpoint holds it: what was sent is the message of that number."""


R = TypeVar("R", bound=Reply)
Remade = Callable[[Flying, object], Called]
"""Makes a call that was in flight once more, given what the child was sent."""


@dataclass(frozen=True)
class Moment:
    """When a server exchanges with its children, and what was decided.

    Attributes:
        round, team_round: both from 1.
        decisions: None where the method's defaults hold.
        virtual_s: virtual clock when it begins.
    """

    round: int
    team_round: int
    decisions: Decisions | None = None
    virtual_s: float = 0.0


class Tier(Protocol[R]):
    """A server with its children, as a schedule needs it."""

    def invite(self, moment: Moment, away: Collection[int] = ()) -> Sequence[int]:
        """The children that are called now, by id, ascending; none of those that are ``away`` on an earlier call."""

    def calls(self, children: Sequence[int], state: object, moment: Moment) -> Sequence[Any]:
        """What each child is told and sent, given the server's state, in their order: each a :class:`Called`."""

    def submit(self, calls: Sequence[Any]) -> Sequence[Ticket]:
        """Hand calls over; one ticket each, in their order."""

    def results(self, tickets: Sequence[Ticket]) -> Iterator[R | Failure]:
        """The children's replies, in the order in which they come."""

    def side_by_side(self, replies: Sequence[R]) -> Sequence[R]:
        """The replies of children that were called together, with the virtual seconds that they take side by side."""

    def price_s(self, call: Any, /) -> float:
        """Virtual seconds that a call takes at least, known before it is made."""

    def received(self, call: Any, reply: R, state: object, staleness: int = 0) -> Received[object]:
        """A child's upload as the method receives it in ``state``, which has changed ``staleness`` times since."""

    def aggregate(self, state: object, ups: Sequence[Received[object]], moment: Moment) -> object:
        """The server's state after the uploads, which are not empty and ordered by sender."""

    def settle(self, calls: Sequence[Any], moment: Moment) -> None:
        """Children whose calls have ended are what these calls made of them, from now on."""


@dataclass(frozen=True)
class Gap:
    """What lay between a server and its children in an exchange that did not wait for all of them.

    Attributes:
        idle_s: virtual seconds from each upload until the exchange ended, added up: so long its sender had no work.
        staleness: how many of the uploads that counted were how stale.
        stale: uploads that were dropped as too stale.
        in_flight: children that were still on a call when it ended.
    """

    idle_s: float
    staleness: Mapping[int, int] = field(default_factory=dict)
    stale: int = 0
    in_flight: int = 0

    def metrics(self) -> dict[str, float]:
        """All of it as numbers for curves; see :data:`~.records.ASYNC`."""
        counts = {f"{ASYNC}staleness/{stale}": float(count) for stale, count in self.staleness.items()}
        own = {f"{ASYNC}idle_s": self.idle_s, f"{ASYNC}stale": float(self.stale), IN_FLIGHT: float(self.in_flight)}
        return own | counts


@dataclass(frozen=True)
class Step(Generic[R]):
    """What an exchange came to.

    Attributes:
        state: of the server afterwards; the one before where nothing counted.
        seconds: virtual ones that the server waited.
        replies: of all children that answered, by id, dropped ones marked.
        arrivals: those of them whose uploads counted; ``ups``: the uploads.
        gap: None where the server waited for all its children.
    """

    state: object
    seconds: float
    replies: Sequence[R]
    arrivals: Sequence[R]
    ups: Sequence[Received[object]]
    gap: Gap | None = None

    @property
    def counted(self) -> int:
        """Number of uploads that counted: they came, and in time."""
        return len(self.ups)


class Schedule(Protocol):
    """When a server closes an exchange with its children."""

    def step(self, tier: Tier[R], state: object, moment: Moment) -> Step[R]:
        """One exchange, from the invitations to the server's new state."""

    def exchange(self, tier: Tier[R], state: object, moment: Moment) -> "Pausing[Step[R]]":
        """The same with a pause once the calls are handed over, in which others may hand over theirs."""

    @property
    def away(self) -> Collection[int]:
        """Children that are on a call between two exchanges."""

    def passed(self, seconds: float) -> None:
        """Virtual seconds have passed beside the exchanges."""

    def renewed(self) -> None:
        """The server's state was changed beside the exchanges."""

    def dropped(self, staying: Collection[int]) -> None:
        """Of the children that are on a call only these are still the server's; what the others send is dropped."""

    def capture(self) -> Aloft:
        """What is in flight between two exchanges."""

    def restore(self, aloft: Aloft, remade: Remade) -> None:
        """Take up again what :meth:`capture` gave; ``remade`` gives a call as it was handed over."""


Made = TypeVar("Made")
Pausing = Generator[None, None, Made]
"""Something that is made with pauses, after each of which whoever makes it goes on."""


def at_once(making: Pausing[Made]) -> Made:
    """Make something without pausing; gives what it comes to."""
    while True:
        try:
            next(making)
        except StopIteration as stop:
            made: Made = stop.value
            return made


def watched(watch: Stopwatch, making: Pausing[Made]) -> Pausing[Made]:
    """Make something with its pauses, in which ``watch`` does not run."""
    while True:
        with watch:
            try:
                next(making)
            except StopIteration as stop:
                made: Made = stop.value
                return made
        yield


@dataclass(frozen=True)
class Deadline:
    """The server waits for all children, but no longer than ``limit_s`` virtual seconds; what comes later is dropped.

    A lost child is waited for until it is lost.
    """

    limit_s: float
    away: ClassVar[Collection[int]] = ()

    def step(self, tier: Tier[R], state: object, moment: Moment) -> Step[R]:
        """One exchange that ends when the last child has answered, at ``limit_s`` at the latest.

        Raises:
            StrataError: the first failure among the children, whatever the others do.
        """
        return at_once(self.exchange(tier, state, moment))

    def exchange(self, tier: Tier[R], state: object, moment: Moment) -> Pausing[Step[R]]:
        """The exchange that :meth:`step` makes, with a pause once the children are called.

        Raises:
            StrataError: the first failure among the children, whatever the others do.
        """
        children = tier.invite(moment)
        calls = tier.calls(children, state, moment)
        tickets = tier.submit(calls)
        yield
        by_sender: dict[int, R] = {}
        for result in tier.results(tickets):
            if isinstance(result, Failure):
                raise result.error
            by_sender[result.sender] = result
        replies, arrivals, ups, waited = [], [], [], 0.0
        together = tier.side_by_side([by_sender[call.receiver] for call in calls])
        for call, reply in zip(calls, together, strict=True):
            seconds = reply.seconds
            waited, in_time = max(waited, min(seconds, self.limit_s)), seconds <= self.limit_s
            if reply.arrived and in_time:
                arrivals.append(reply)
                ups.append(tier.received(call, reply, state))
            replies.append(reply if in_time else reply.late())
        after = tier.aggregate(state, ups, moment) if ups else state
        return Step(after, waited, replies, arrivals, ups)

    def passed(self, seconds: float) -> None:
        """Do nothing: between two exchanges nobody is on a call."""

    def renewed(self) -> None:
        """Do nothing: nobody has an older state between two exchanges."""

    def dropped(self, staying: Collection[int]) -> None:
        """Do nothing: between two exchanges nobody is on a call."""

    def capture(self) -> Aloft:
        """Nothing."""
        return Aloft()

    def restore(self, aloft: Aloft, remade: Remade) -> None:
        """Do nothing: between two exchanges nobody is on a call."""


@dataclass(frozen=True)
class Synchronous(Deadline):
    """The server waits for all its children."""

    limit_s: float = float("inf")
