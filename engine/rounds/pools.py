"""How servers reach clients and teams, wherever these live: what is asked of them, and what comes back.

A pool does not wait: ``submit`` hands calls over and gives a ticket for each, ``results`` yields what came of them as
it comes, in any order.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, Protocol, TypeVar

from strata.engine.method.calls import LATE, NO_TEAM, STALE, Call, CallTable
from strata.engine.method.messages import Assignment
from strata.engine.method.requests import Evaluation
from strata.engine.method.situation import Decisions
from strata.engine.params import Params
from strata.engine.state.snapshot import Flying, Underway
from strata.engine.stopwatch import Spent

K = TypeVar("K")
R = TypeVar("R")
V = TypeVar("V")

Ticket = object
"""Stands for a call that was handed over; what it is, is up to the pool."""


@dataclass(frozen=True)
class Failure:
    """What came of a call that broke: its error, whose message says whose call it was."""

    error: Exception


@dataclass(eq=False)
class Queued(Generic[K, R]):
    """A ticket of a :class:`Queue`: a call, and what came of it once it was made."""

    call: K
    result: R | Failure | None = None


class Queue(Generic[K, R]):
    """Calls that one process makes: each once, in the order in which they were handed over.

    They are made when a result is asked for, up to that of the last call asked for, or all of them by :meth:`finish`.
    What came of a call is kept with its ticket.
    """

    def __init__(
        self, make: Callable[[Sequence[K]], Iterable[R | Failure]], width: int = 1, whose: Callable[[K], object] = id
    ) -> None:
        """An empty queue.

        Args:
            make: makes calls, and gives what came of each, in their order.
            width: calls that are made at once, at most.
            whose: what a call is for; two calls for the same are made one after the other.
        """
        self._make, self._width, self._whose = make, width, whose
        self._waiting: deque[Queued[K, R]] = deque()

    def submit(self, calls: Iterable[K]) -> list[Queued[K, R]]:
        """Take calls that are to be made; one ticket each, in their order."""
        tickets: list[Queued[K, R]] = [Queued(call) for call in calls]
        self._waiting.extend(tickets)
        return tickets

    def results(self, tickets: Iterable[Queued[K, R]]) -> Iterator[R | Failure]:
        """What came of calls, in the order of their tickets; those that were not made yet are made.

        Raises:
            ValueError: for a call that :meth:`forget` has dropped.
        """
        for ticket in tickets:
            while ticket.result is None:
                if not self._waiting:
                    raise ValueError("this call was handed over before the states were restored; hand it over again")
                self._advance()
            yield ticket.result

    def finish(self) -> None:
        """Make all calls that were not made yet."""
        while self._waiting:
            self._advance()

    def forget(self) -> None:
        """Drop all calls that were not made yet."""
        self._waiting.clear()

    def _advance(self) -> None:
        group: dict[object, Queued[K, R]] = {}
        while self._waiting and len(group) < self._width and (owner := self._whose(self._waiting[0].call)) not in group:
            group[owner] = self._waiting.popleft()
        made = self._make([ticket.call for ticket in group.values()])
        for ticket, result in zip(group.values(), made, strict=True):
            ticket.result = result


@dataclass  # not frozen, which would cost more than all that it is made from: there are ten thousands a second
class ClientCall:
    """An invitation: which client, in which team, when, what it is told and what it receives.

    A probe only assesses its speed. ``down`` is None where nobody will read it, because calls are only priced.
    ``virtual_s`` is the virtual clock when the client is called. ``after`` names the call of whose making the client's
    state is, where that was taken in by its team and not yet by the global server.
    """

    client: int
    team: int
    round: int
    team_round: int
    assignment: Assignment
    down: object = None
    probe: bool = False
    virtual_s: float = 0.0
    after: "Key | None" = None

    @property
    def receiver(self) -> int:
        """Id of the client that is called."""
        return self.client

    @property
    def key(self) -> "Key":
        """By which the call is told from all others of the run."""
        return self.client, self.round, self.team_round

    def flying(self, message: int, seconds: float, age_s: float, version: int) -> Flying:
        """The call as a checkpoint holds it: what was sent is the message of that number."""
        when = self.round, self.team_round
        told = dict(self.assignment)
        return Flying(self.client, *when, told, message, seconds, age_s, version, virtual_s=self.virtual_s)


@dataclass  # not frozen, as the call
class ClientReply:
    """What comes back of a client call.

    Attributes:
        client: its id.
        up: its upload, None when it was lost on the way.
        call: what it cost.
        singly: requests that were answered by themselves though several at once were asked for, by the reason.
        spent: wall seconds that it took where the client lives.
    """

    client: int
    up: object
    call: Call
    singly: Mapping[str, int] = field(default_factory=dict)
    spent: Spent = field(default=Spent(), compare=False)

    @property
    def sender(self) -> int:
        """Id of the client that was called."""
        return self.client

    @property
    def seconds(self) -> float:
        """Virtual seconds from invitation until the client's server had the upload, or the client was lost."""
        return self.call.total_s

    @property
    def arrived(self) -> bool:
        """Whether there is an upload: the client was not lost."""
        return self.up is not None

    @property
    def changed(self) -> bool:
        """Whether the call made something of the client: of a lost one it made nothing."""
        return self.up is not None

    def late(self) -> "ClientReply":
        """The reply as a deadline leaves it: dropped; one that was lost stays lost."""
        return replace(self, call=self.call._replace(status=LATE)) if self.arrived else self

    def stale(self) -> "ClientReply":
        """The reply as a server leaves it that has moved on too far since: dropped."""
        return replace(self, call=self.call._replace(status=STALE)) if self.arrived else self


@dataclass(frozen=True)
class EvaluationCall:
    """Evaluate the ``shared`` models (TM, GM) and the personal models of some clients, who are now in ``team``."""

    clients: Sequence[int]
    shared: Mapping[str, Params]
    team: int = NO_TEAM


Key = tuple[int, int, int]
"""Client, round and team round of a call."""

Evaluations = dict[int, Mapping[str, Evaluation]]
"""Scores by client id: one :class:`~strata.engine.method.requests.Evaluation` per kind of model."""

Topology = Mapping[int, Sequence[int]]
"""Members (client ids, ascending) by team id."""


class ClientPool(Protocol):
    """How a server reaches clients, wherever they live: in its own process, in actors, or in a timing model only."""

    def submit(self, calls: Sequence[ClientCall]) -> Sequence[Ticket]:
        """Hand calls over, to be made side by side; one ticket each, in their order."""

    def results(self, tickets: Sequence[Ticket]) -> Iterator[ClientReply | Failure]:
        """The replies of calls, in the order in which they come."""

    def settle(self, calls: Sequence[Key], round: int) -> None:
        """What some calls, by their keys, made of their clients is the clients' state, from this round on.

        Only where a call may come late, or be lost after it is made: elsewhere it is so as soon as it is made.
        """

    def evaluate(self, call: EvaluationCall) -> Evaluations:
        """Evaluate the shared models and the personal ones on the given clients' own test data; scores by client id."""

    def states(self, clients: Sequence[int], since: int) -> dict[int, object]:
        """Private states, by client id, of those of the given clients that were changed after the round ``since``.

        With -1 these are all that have one.
        """

    def restore(self, clients: Sequence[int], states: Mapping[int, object]) -> None:
        """Give some clients the private states in ``states``, by client id; those that it lacks have none any more."""


@dataclass(frozen=True)
class TeamCall:
    """The start of a global round for one team: its members now, what it receives, what was decided, and when it is.

    ``download_s`` is how long it receives beside the other teams that are called with it; None: as long as alone.
    """

    team: int
    round: int
    members: Sequence[int]
    down: object
    decisions: Decisions | None = None
    virtual_s: float = 0.0
    download_s: float | None = None

    @property
    def receiver(self) -> int:
        """Id of the team that is called."""
        return self.team

    def flying(self, message: int, seconds: float, age_s: float, version: int) -> Flying:
        """The call as a checkpoint holds it: what was sent is the message of that number."""
        own = self.decisions, self.virtual_s
        return Flying(self.team, self.round, 0, {}, message, seconds, age_s, version, *own)


@dataclass(frozen=True)
class TeamReply:
    """What a team returns after its rounds.

    Attributes:
        team: its id.
        up: its upload.
        samples: training samples of the clients whose uploads counted, 0 where none did.
        seconds: virtual ones, from invitation to the end of its upload; ``rounds_s``: those between its transfers.
        straggling: max − min seconds of each of its cohorts.
        calls: of its clients, in order of team round and client.
        bytes_down, bytes_up: between it and the global server.
        is_late: whether the team tier's deadline dropped it; ``is_stale``: whether it rested on too old a state.
        metrics: other numbers by name, as of an :class:`Outcome`.
        singly: as of its clients' replies, added up.
        spent: wall seconds of its clients, and its own.
        underway: where neither tier waits: its clients' calls that go on, without states and messages; else None.
    """

    team: int
    up: object
    samples: int
    seconds: float
    straggling: Sequence[float]
    calls: CallTable
    bytes_down: int
    bytes_up: int
    rounds_s: float = 0.0
    is_late: bool = False
    is_stale: bool = False
    metrics: Mapping[str, float] = field(default_factory=dict)
    singly: Mapping[str, int] = field(default_factory=dict)
    spent: Spent = field(default=Spent(), compare=False)
    underway: Underway | None = None

    @property
    def sender(self) -> int:
        """Id of the team that answered."""
        return self.team

    @property
    def arrived(self) -> bool:
        """Whether there is an upload: the model of a team that nobody answered is the one it was sent."""
        return self.samples > 0

    @property
    def changed(self) -> bool:
        """True: a team has met the server's message, whoever has answered it."""
        return True

    def late(self) -> "TeamReply":
        """The reply as a deadline leaves it: dropped; the team's clients were in time for the team."""
        return replace(self, is_late=True)

    def stale(self) -> "TeamReply":
        """The reply as a server leaves it that has moved on too far since: dropped."""
        return replace(self, is_stale=True)


class TeamPool(Protocol):
    """How the global server reaches team servers, wherever they live: in its own process or in actors."""

    def submit(self, calls: Sequence[TeamCall]) -> Sequence[Ticket]:
        """Hand the teams' rounds over, to run side by side; one ticket each, in their order."""

    def results(self, tickets: Sequence[Ticket]) -> Iterator[TeamReply | Failure]:
        """The replies of teams, in the order in which they come."""

    def settle(self, teams: Sequence[int], round: int) -> None:
        """Where not all are waited for: what their last rounds made of teams and clients is so from this round on."""

    def settled(self) -> None:
        """Wait until all that was settled is so wherever clients live: others than their team may call them now."""

    def evaluate(self, shared: Mapping[str, Params], topology: Topology) -> Evaluations:
        """Evaluate the shared, the teams' and the personal models on all clients' test data; scores by client id."""

    def snapshot(self) -> dict[int, object]:
        """Team states by team id; None before the first round."""

    def restore(self, teams: Mapping[int, object]) -> None:
        """Give each team its state back; one that ``teams`` lacks has none. Calls that were not made are forgotten."""


def merge(parts: Iterable[Mapping[int, V]]) -> dict[int, V]:
    """Join dicts with distinct ids, ordered by id."""
    joined: dict[int, V] = {}
    for part in parts:
        joined.update(part)
    return dict(sorted(joined.items()))
