"""When a server exchanges with its children and when it closes the exchange: the rules of every tier.

A tier is a server with its children: a team with its clients, the global server with its clients or its teams. A
schedule knows nothing of what the children are or how they are reached.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

from strata.engine.method.messages import Received
from strata.engine.method.situation import Decisions
from strata.engine.rounds.pools import Failure, Ticket
from strata.engine.rounds.world import TierPlan
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


R = TypeVar("R", bound=Reply)


@dataclass(frozen=True)
class Moment:
    """When a server exchanges with its children: global round and team round, both from 1; and what was decided."""

    round: int
    team_round: int
    decisions: Decisions | None = None


class Tier(Protocol[R]):
    """A server with its children, as a schedule needs it."""

    def invite(self, moment: Moment) -> Sequence[int]:
        """The children that take part, by id, ascending."""

    def submit(self, children: Sequence[int], state: object, moment: Moment) -> Sequence[Ticket]:
        """Send each child what it receives, given the server's state; one ticket each, in their order."""

    def results(self, tickets: Sequence[Ticket]) -> Iterator[R | Failure]:
        """The children's replies, in the order in which they come."""

    def received(self, reply: R) -> Received[object]:
        """A child's upload as the method receives it."""

    def aggregate(self, state: object, ups: Sequence[Received[object]], moment: Moment) -> object:
        """The server's state after the uploads, which are not empty and ordered by sender."""


@dataclass(frozen=True)
class Step(Generic[R]):
    """What an exchange came to.

    Attributes:
        state: of the server afterwards; the one before where nothing counted.
        seconds: virtual ones that the server waited.
        replies: of all children, by id, late ones marked.
        arrivals: those of them whose uploads counted; ``ups``: the uploads.
    """

    state: object
    seconds: float
    replies: Sequence[R]
    arrivals: Sequence[R]
    ups: Sequence[Received[object]]

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
        tickets = tier.submit(children, state, moment)
        yield
        by_sender: dict[int, R] = {}
        for result in tier.results(tickets):
            if isinstance(result, Failure):
                raise result.error
            by_sender[result.sender] = result
        replies, arrivals, waited = [], [], 0.0
        for child in children:
            reply = by_sender[child]
            waited = max(waited, min(reply.seconds, self.limit_s))
            in_time = reply.seconds <= self.limit_s
            if reply.arrived and in_time:
                arrivals.append(reply)
            replies.append(reply if in_time else reply.late())
        ups = [tier.received(reply) for reply in arrivals]
        after = tier.aggregate(state, ups, moment) if ups else state
        return Step(after, waited, replies, arrivals, ups)


@dataclass(frozen=True)
class Synchronous(Deadline):
    """The server waits for all its children."""

    limit_s: float = float("inf")


def schedule_of(plan: TierPlan) -> Schedule:
    """The schedule that a tier's configuration asks for: a deadline, or waiting for all."""
    return Deadline(plan.deadline_s) if plan.mode == "deadline" else Synchronous()
