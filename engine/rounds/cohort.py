"""Clients as the children of a server: who is invited, what each is told and sent, how uploads are taken in.

A cohort is what a server invites in one go: a team's clients in a team round, or, in a flat method, the global server's
clients in a round.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from strata.engine.clock.delays import available, straggling_s
from strata.engine.data.dataset import IntArray
from strata.engine.method.algorithm import FlatAlgorithm
from strata.engine.method.calls import NO_TEAM, CallTable
from strata.engine.method.merging import outline_of, whole
from strata.engine.method.messages import Assignment, Context, Received
from strata.engine.method.uploads import require_finite, require_shapes
from strata.engine.params import Params
from strata.engine.rounds.beside.desk import Desk
from strata.engine.rounds.flying.links import link_of, together_on
from strata.engine.rounds.mixing import rebased
from strata.engine.rounds.pools import (
    ClientCall,
    ClientPool,
    ClientReply,
    EvaluationCall,
    Evaluations,
    Failure,
    Ticket,
)
from strata.engine.rounds.records import Outcome, added
from strata.engine.rounds.schedules import Moment, Step
from strata.engine.rounds.world import World, called_size
from strata.engine.seeding import derive, generator
from strata.engine.state.snapshot import Flying, Snapshot
from strata.engine.stopwatch import Stopwatch, together
from strata.engine.tree import between, message_key, parts_of

Aggregate = Callable[[object, Sequence[Received[object]], Context], object]


def choose(members: Sequence[int] | IntArray, size: int, seed: int, *purpose: str | int) -> list[int]:
    """Draw ``size`` of the members without replacement (all, if there are fewer); ids in ascending order.

    ``purpose`` says what is drawn, e.g. whose cohort and when: the same seed and purpose give the same draw.
    """
    if size >= len(members):
        return sorted(map(int, members))
    drawn = generator(seed, *purpose).choice(len(members), size=size, replace=False)
    if isinstance(members, np.ndarray):
        return sorted(members[drawn].tolist())
    return sorted(int(members[place]) for place in drawn.tolist())  # of a range of millions, nothing else is made


def invite_clients(
    world: World, members: Sequence[int] | IntArray, moment: Moment, team: int, away: Collection[int] = ()
) -> list[int]:
    """The cohort of a (team) round: a draw among those of a server's members that are there; ids, ascending.

    Its size is the share of all members, as far as so many are available. Those ``away`` on a call are not drawn, and
    their places are taken.
    """
    chances, when = world.availability, (moment.round, moment.team_round)
    here = members
    if world.presence is not None:
        here = np.asarray(here, np.int64)[world.presence.here(here, moment.virtual_s)]
    if chances is not None:
        here = available(chances, here, world.seed, when)
    if away:  # a column, for there may be many clients
        here = np.asarray(here)[~np.isin(here, np.fromiter(away, np.int64))]
    size = called_size(world.clients_plan, len(members), len(away))
    return choose(here, size, world.seed, "cohort", *when, team)


class ClientTier:
    """Some clients as the children of one server: a :class:`~.schedules.Tier`."""

    def __init__(
        self,
        world: World,
        clients: ClientPool,
        members: Sequence[int],
        aggregate: Aggregate,
        priced: Callable[[ClientCall], ClientReply],
        team: int = NO_TEAM,
    ) -> None:
        """Take some clients as the children of a server.

        Args:
            world: the run.
            clients: reaches them.
            members: their ids, ascending.
            aggregate: the method's step of the server that they talk to.
            priced: a call's reply as far as it is known before the call is made.
            team: of the server; NO_TEAM for the global one.
        """
        self._world, self._clients, self._team = world, clients, team
        self._members = np.asarray(members, np.int64)
        self._aggregate, self.priced = aggregate, priced
        self._invited: tuple[tuple[int, int], list[int]] = ((0, 0), [])
        self._began: dict[int, object] = {}  # from what uploads began that are taken in next, by client
        self.plan, self.link = world.clients_plan, link_of(world, team)
        self.desk = Desk(world, world.server_profile if team == NO_TEAM else world.team_profile)
        self.waited = Stopwatch()  # from handing calls over to their last reply

    def invite(self, moment: Moment, away: Collection[int] = ()) -> list[int]:
        """The cohort; of those invited, the clients for whom something was decided, if anything was."""
        when = moment.round, moment.team_round
        if self._invited[0] != when:  # asked again by whoever decides for the cohort
            self._invited = when, invite_clients(self._world, self._members, moment, self._team, away)
        cohort = self._invited[1]
        if moment.decisions is None:
            return cohort
        return [client for client in cohort if client in moment.decisions.clients]

    def calls(self, children: Sequence[int], state: object, moment: Moment) -> list[ClientCall]:
        """The calls of a cohort: each under what was decided for it, on top of the method's default."""
        decided = None if moment.decisions is None else moment.decisions.clients
        return self._sent(state, moment, assignments_for(self._world, children, decided, self._team))

    def _sent(self, state: object, moment: Moment, told: Mapping[int, Assignment]) -> list[ClientCall]:
        """The calls with what the method sends each client, given the server's state and what the client is told."""
        return coded_calls(self._world, client_calls(self._world, state, moment, self._team, told))

    def remade(self, flying: Flying, down: object) -> ClientCall:
        """A call that was in flight when the run was saved, as it was handed over."""
        when = flying.round, flying.team_round
        return ClientCall(flying.receiver, self._team, *when, flying.assignment, down, virtual_s=flying.virtual_s)

    def submit(self, calls: Sequence[ClientCall]) -> Sequence[Ticket]:
        """Call clients, to work side by side."""
        with self.waited:
            return self._clients.submit(calls)

    def results(self, tickets: Sequence[Ticket]) -> Iterator[ClientReply | Failure]:
        """The replies of the clients that were called, in the order in which they come."""
        return self.waited.over(self._clients.results(tickets))

    def side_by_side(self, replies: Sequence[ClientReply], moment: Moment) -> Sequence[ClientReply]:
        """The replies of a cohort with the seconds that they take where its transfers share the server's link."""
        return together_on(self.link, replies, moment.virtual_s)

    def received(self, call: ClientCall, reply: ClientReply, state: object, staleness: int = 0) -> Received[object]:
        """A client's upload as the method receives it: with its training samples, and what the client was told.

        Raises:
            ConfigError: when changes are to be counted, and an upload holds no model that its sender was sent.
            TrainingError: when a model comes back in another shape than it was sent in.
        """
        where = where_in(call.team, call.team_round)
        require_shapes(outline_of(reply.up), call.down, f"client {call.client}, round {call.round}{where}")
        samples = 1 if self._world.taking.deviation else int(self._world.train_samples[reply.client])
        up, mixing = reply.up, self.plan.mixing
        if staleness and mixing.update == "change":
            up = self._rebased(call, up, state, mixing.worth(staleness))
        if not self._world.taking.is_plain:
            self._began[reply.client] = call.down if up is reply.up else self._now(call, state)
        return Received(reply.client, samples, up, call.assignment, staleness)

    def _rebased(self, call: ClientCall, up: object, state: object, worth: float) -> object:
        """A stale upload as if its sender had begun from what it would be sent now."""
        return rebased(up, call.down, self._now(call, state), worth)

    def _now(self, call: ClientCall, state: object) -> object:
        """What a client would be sent in another state of its server, all else as it was."""
        info = self._world.info_in(call.client, self._team)
        method: Any = self._world.algorithm
        return method.to_client(state, info, call.assignment)

    def aggregate(self, state: object, ups: Sequence[Received[object]], moment: Moment) -> object:
        """The server's state after the method's step over the uploads, whose draws have a seed of their own.

        Those that were merged are one. Where servers do not wait for all, it is between the state before and that.

        Raises:
            ConfigError: for a robust mean of models that are not alike.
            TrainingError: when an upload that is not finite has reached the state, or merged ones are not alike.
        """
        seed = derive(self._world.seed, "server", self._team, moment.round, moment.team_round)
        if not self._world.taking.is_plain:
            ups = self._world.taking.taken(ups, self._began, derive(seed, "taking"))
        self._began = {}
        where = f"round {moment.round}{where_in(self._team, moment.team_round)}"
        merged = whole(ups, self._world.merges)
        made = self._aggregate(state, merged, Context(moment.round, moment.team_round, seed))
        after = self.desk.made(made, seed, f"the server, {where}")
        require_finite(after, ups, f"client {{}}, {where}")
        return self._between(state, after, self.plan.mixing.share_of(ups))

    def _between(self, before: object, after: object, share: float) -> object:
        return between(before, after, share)

    def settle(self, calls: Sequence[ClientCall], moment: Moment) -> None:
        """What some calls made of their clients is these clients' state from now on."""
        if self._world.settles_later:
            self._clients.settle([call.key for call in calls], moment.round)

    def outcome(self, before: object, step: Step[ClientReply]) -> Outcome:
        """All calls of an exchange, by client; straggling is over the clients whose uploads counted.

        Where the server does not wait for all, straggling is the time for which clients had no work.
        """
        straggling = [straggling_s([reply.seconds for reply in step.arrivals])] if step.arrivals else []
        if step.gap is not None:
            straggling = [step.gap.idle_s]
        return Outcome(
            seconds=step.seconds,
            straggling=straggling,
            calls=CallTable.of([reply.call for reply in step.replies]),
            counted=step.counted,
            metrics={} if step.gap is None else step.gap.metrics(),
            singly=added(reply.singly for reply in step.replies),
            spent=together(reply.spent for reply in step.replies),
        )

    def evaluate(self, shared: Mapping[str, Params], clients: Sequence[int]) -> Evaluations:
        """Evaluate the shared models and the personal ones on the test data of some members; scores by client id."""
        return self._clients.evaluate(EvaluationCall(clients, shared, self._team))


class FlatTier(ClientTier):
    """All clients as the children of the global server, in a method without teams."""

    def __init__(self, world: World, clients: ClientPool, priced: Callable[[ClientCall], ClientReply]) -> None:
        """Take all clients of ``world`` that may be called; ``clients`` reaches them, ``priced`` is as above."""
        self._method = flat(world)
        super().__init__(world, clients, world.seen, self._method.global_step, priced)

    def _between(self, before: object, after: object, share: float) -> object:
        return self._method.between(before, after, share)

    @property
    def team_of(self) -> IntArray:
        """The team of each client, ``(N,)``: none, for there are no teams."""
        return self._world.team_of

    def clients(self, children: Sequence[int]) -> list[int]:
        """The clients of some children of the global server, which in a flat method are these themselves."""
        return list(children)

    def outcome(self, before: object, step: Step[ClientReply]) -> Outcome:
        """All calls of an exchange, with what only the server can tell of uploads beside what clients reported."""
        outcome = super().outcome(before, step)
        found = self.assessed(before, step) if step.counted else {}
        return replace(outcome, calls=outcome.calls.with_metrics(found)) if found else outcome

    def assessed(self, before: object, step: Step[ClientReply]) -> Mapping[int, Mapping[str, float]]:
        """What the method can tell of the uploads of an exchange that counted, one at least, by client."""
        return self._method.assess(before, step.ups, step.state)

    def finish(self, state: object, moment: Moment, away: Collection[int]) -> None:
        """Do nothing: nothing lies between the server and its clients."""

    def capture(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot as it is: nothing lies between the server and its clients."""
        return snapshot

    def restore(self, snapshot: Snapshot) -> None:
        """Forget who was invited: nothing else lies between the server and its clients."""
        self._invited = ((0, 0), [])


def where_in(team: int, team_round: int) -> str:
    """The team and its round, behind the round in an error; empty without teams."""
    return "" if team == NO_TEAM else f", team {team}, team round {team_round}"


def flat(world: World) -> FlatAlgorithm[object, object, object, object]:
    """The method of a run without teams, as a type checker wants it; a tiered method is an AssertionError."""
    assert isinstance(world.algorithm, FlatAlgorithm)
    return world.algorithm


def client_calls(
    world: World, owner_state: object, moment: Moment, team: int, assignments: Mapping[int, Assignment]
) -> list[ClientCall]:
    """The calls of a cohort: what the method sends to each client, given its server's state and its assignments."""
    method: Any = world.algorithm  # flat and tiered methods share the name to_client, not the type of the state
    calls = []
    distinct: dict[object, object] = {}
    seen: dict[object, tuple[object, object]] = {}  # with the message itself, or an id in it could become another's
    for client, told in assignments.items():
        down = method.to_client(owner_state, world.info_in(client, team), told)
        parts = parts_of(down)
        if parts not in seen:
            seen[parts] = down, distinct.setdefault(message_key(down), down)
        when = moment.round, moment.team_round
        calls.append(ClientCall(client, team, *when, told, seen[parts][1], virtual_s=moment.virtual_s))
    return calls


def coded_calls(world: World, calls: Sequence[ClientCall]) -> list[ClientCall]:
    """Calls with what clients receive of their messages; one that several are sent is coded once."""
    if world.wire.down.is_plain:
        return list(calls)
    received: dict[int, object] = {}
    for call in calls:
        if id(call.down) not in received:
            seed = derive(world.seed, "down", call.round, call.team_round, call.client)
            received[id(call.down)] = world.wire.sent(call.down, seed)
    return [replace(call, down=received[id(call.down)]) for call in calls]


def assignments_for(
    world: World, cohort: Sequence[int], decided: Mapping[int, Assignment] | None, team: int = NO_TEAM
) -> dict[int, Assignment]:
    """What each client of a team's cohort is told: the method's default, overlaid by what was decided for it."""
    told = {client: world.algorithm.default_assignment(world.info_in(client, team)) for client in cohort}
    return told if decided is None else {c: {**default, **decided.get(c, {})} for c, default in told.items()}
