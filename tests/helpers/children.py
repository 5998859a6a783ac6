"""Children with given replies, for schedules: no clients, no methods, no training."""

from dataclasses import dataclass, replace

from strata.engine.method.messages import Received
from strata.engine.state.snapshot import Flying


@dataclass(frozen=True)
class Reply:
    """What a child answers; ``price_s``: what was known of its seconds before."""

    sender: int
    seconds: float
    arrived: bool = True
    is_late: bool = False
    is_stale: bool = False
    price_s: float | None = None

    @property
    def changed(self):
        return self.arrived

    def late(self):
        return replace(self, is_late=True)

    def stale(self):
        return replace(self, is_stale=True)


@dataclass(frozen=True)
class Call:
    receiver: int
    round: int
    team_round: int = 1
    assignment: tuple = ()
    down: object = None

    def flying(self, *held):
        return Flying(self.receiver, self.round, self.team_round, self.assignment, *held)


class Toys:
    """Children with given replies, which come in the reverse order; the state is the list of who counted.

    ``concurrency``: so many are called in all, of those that are not away the first ones. What happened is
    noted: who was ``called`` and ``settled`` in each round, and what was ``made``, as pairs of child and round.
    """

    def __init__(self, *replies, concurrency=None):
        self.replies = {reply.sender: reply for reply in replies}
        self.concurrency = len(self.replies) if concurrency is None else concurrency
        self.called, self.settled, self.made = [], [], []

    def invite(self, moment, away=()):
        here = [child for child in sorted(self.replies) if child not in away]
        return here[: max(0, self.concurrency - len(away))]

    def calls(self, children, state, moment):
        self.called.append(list(children))
        down = tuple(state)
        return [Call(child, moment.round, down=down) for child in children]

    def submit(self, calls):
        self.made += [(call.receiver, call.round) for call in calls]
        return [call.receiver for call in calls]

    def results(self, tickets):
        return (self.replies[child] for child in reversed(tickets))

    def side_by_side(self, replies, moment):
        return replies

    def priced(self, call):
        reply = self.replies[call.receiver]
        return reply if reply.price_s is None else replace(reply, seconds=reply.price_s)

    def received(self, call, reply, state, staleness=0):
        return Received(reply.sender, 1, f"upload {reply.sender} of round {call.round}", staleness=staleness)

    def aggregate(self, state, ups, moment):
        return [*state, *(up.sender for up in ups)]

    def settle(self, calls, moment):
        self.settled.append([call.receiver for call in calls])
