"""When a server exchanges with its children and when it closes the exchange: the rules of every tier.

A tier is a server with its children: a team with its clients, the global server with its clients or its teams. A
schedule knows nothing of what the children are or how they are reached.
"""

import math
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from strata.engine.errors import ConfigError
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

    @property
    def changed(self) -> bool:
        """Whether the call made something of the child, which is kept; it makes nothing of a lost client."""

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

    def side_by_side(self, replies: Sequence[R], moment: Moment) -> Sequence[R]:
        """The replies of children that were called together, with the virtual seconds that they take side by side."""

    def priced(self, call: Any, /) -> R:
        """A call's reply as far as it is known before the call is made: it takes so many virtual seconds at least."""

    def received(self, call: Any, reply: R, state: object, staleness: int = 0) -> Received[object]:
        """A child's upload as the method receives it in ``state``, which has changed ``staleness`` times since."""

    def aggregate(self, state: object, ups: Sequence[Received[object]], moment: Moment) -> object:
        """The server's state after the uploads, which are not empty and ordered by sender."""

    def settle(self, calls: Sequence[Any], moment: Moment) -> None:
        """Children whose calls have ended, and made something of them, are what these calls made, from now on."""


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

    def metrics(self, of: str = "") -> dict[str, float]:
        """All of it as numbers for curves, whose names begin with :data:`~.records.ASYNC` and with whom they are of."""
        counts = {f"staleness/{stale}": float(count) for stale, count in self.staleness.items()}
        own = {"idle_s": self.idle_s, "stale": float(self.stale), IN_FLIGHT: float(self.in_flight)}
        return {f"{ASYNC}{of}{name}": value for name, value in (own | counts).items()}


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


class Waiting:
    """A server that calls its children together, and waits for their replies until it closes the exchange.

    The base of a schedule of one's own, ``strata.run(…, schedule=…)``: say in :meth:`closes_s` how long the server
    waits, or write :meth:`exchange` anew. A call is over with its exchange: what comes after it has closed is dropped
    and counted, and its sender keeps its new state. What a schedule remembers from one exchange to the next is given by
    :meth:`remembered`, so that a checkpoint holds it; each server has a copy of its own.
    """

    away: ClassVar[Collection[int]] = ()

    def closes_s(self, seconds: Sequence[float], moment: Moment) -> float:
        """Virtual seconds after which the server waits no longer; by default it waits for all.

        It is not asked where nobody was called, because nobody was there.

        Args:
            seconds: after which each child answers, or is lost, in the order of their ids; one at least.
            moment: round, team round, and the virtual clock when the exchange began.
        """
        return math.inf

    def remembered(self) -> object:
        """What is kept from one exchange to the next: a tree of tensors, numbers, text; None: nothing."""
        return None

    def remember(self, kept: Any) -> None:
        """Take up again what :meth:`remembered` gave."""

    def step(self, tier: Tier[R], state: object, moment: Moment) -> Step[R]:
        """One exchange that ends when the last child has answered, or when it is closed.

        Raises:
            StrataError: the first failure among the children, whatever the others do.
        """
        return at_once(self.exchange(tier, state, moment))

    def exchange(self, tier: Tier[R], state: object, moment: Moment) -> Pausing[Step[R]]:
        """The exchange that :meth:`step` makes, with a pause once the children are called.

        Raises:
            StrataError: the first failure among the children, whatever the others do.
            ConfigError: when :meth:`closes_s` raises something, or gives no number of seconds.
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
        replies, arrivals, ups = [], [], []
        together = tier.side_by_side([by_sender[call.receiver] for call in calls], moment)
        seconds = [reply.seconds for reply in together]
        limit_s = self._limit_s(seconds, moment)
        for call, reply, took_s in zip(calls, together, seconds, strict=True):
            in_time = took_s <= limit_s
            if reply.arrived and in_time:
                arrivals.append(reply)
                ups.append(tier.received(call, reply, state))
            replies.append(reply if in_time else reply.late())
        after = tier.aggregate(state, ups, moment) if ups else state
        tier.settle([call for call, reply in zip(calls, together, strict=True) if reply.changed], moment)
        return Step(after, min(max(seconds, default=0.0), limit_s), replies, arrivals, ups)

    def _limit_s(self, seconds: Sequence[float], moment: Moment) -> float:
        if not seconds:
            return math.inf
        try:
            limit_s = self.closes_s(seconds, moment)
        except Exception as error:  # a schedule of the user's own may raise anything
            raise ConfigError(
                f"round {moment.round}: {type(self).__name__}.closes_s raised {type(error).__name__}: {error}. It is "
                f"called with the seconds of {len(seconds)} children and a Moment, and gives virtual seconds ≥ 0."
            ) from error
        if isinstance(limit_s, bool) or not isinstance(limit_s, int | float) or not limit_s >= 0:
            raise ConfigError(
                f"round {moment.round}: {type(self).__name__}.closes_s gave {limit_s!r}; expected virtual seconds ≥ 0, "
                "infinitely many to wait for all."
            )
        return float(limit_s)

    def passed(self, seconds: float) -> None:
        """Do nothing: between two exchanges nobody is on a call."""

    def renewed(self) -> None:
        """Do nothing: nobody has an older state between two exchanges."""

    def dropped(self, staying: Collection[int]) -> None:
        """Do nothing: between two exchanges nobody is on a call."""

    def capture(self) -> Aloft:
        """Nothing is in flight; what is remembered is kept."""
        return Aloft(own=self.remembered())

    def restore(self, aloft: Aloft, remade: Remade) -> None:
        """Remember what was captured: between two exchanges nobody is on a call."""
        if aloft.own is not None:
            self.remember(aloft.own)


@dataclass(frozen=True)
class Deadline(Waiting):
    """The server waits for all children, but no longer than ``limit_s`` virtual seconds; what comes later is dropped.

    A lost child is waited for until it is lost.
    """

    limit_s: float

    def closes_s(self, seconds: Sequence[float], moment: Moment) -> float:
        """The deadline, whatever the children take."""
        return self.limit_s


@dataclass(frozen=True)
class Synchronous(Deadline):
    """The server waits for all its children."""

    limit_s: float = math.inf
