"""Team servers: their rounds with their clients; and teams as the children of the global server."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

from strata.engine.clock.delays import transfer_s
from strata.engine.determinism import single_thread
from strata.engine.method.algorithm import TieredAlgorithm
from strata.engine.method.calls import CallTable
from strata.engine.method.messages import Context, Received
from strata.engine.params import Params
from strata.engine.rounds.buffered import schedule_of
from strata.engine.rounds.cohort import Aggregate, ClientTier
from strata.engine.rounds.costs import Prices
from strata.engine.rounds.flying.links import link_of
from strata.engine.rounds.flying.shared_flights import flights_on
from strata.engine.rounds.pools import (
    ClientCall,
    ClientPool,
    Evaluations,
    Failure,
    Key,
    Queue,
    Queued,
    TeamCall,
    TeamReply,
    Ticket,
    Topology,
    merge,
)
from strata.engine.rounds.records import ASYNC, IN_FLIGHT, Outcome, added
from strata.engine.rounds.schedules import Moment, Pausing, Schedule, at_once, watched
from strata.engine.rounds.world import World
from strata.engine.state.snapshot import Underway
from strata.engine.stopwatch import Spent, Stopwatch, here, together
from strata.engine.tree import count_bytes

Tiered = TieredAlgorithm[object, object, object, object, object, object, object]


def tiered(world: World) -> Tiered:
    """The method of a run with teams, as a type checker wants it; a flat method is an AssertionError."""
    assert isinstance(world.algorithm, TieredAlgorithm)
    return world.algorithm


class ProvisionalTier(ClientTier):
    """The clients of a team whose rounds count once the global server has taken them in."""

    def __init__(
        self,
        world: World,
        clients: ClientPool,
        members: Sequence[int],
        aggregate: Aggregate,
        priced: Prices,
        team: int,
        last: dict[int, Key],
    ) -> None:
        """Take clients as :class:`ClientTier` does; ``last``: which call made each what it is for its team."""
        super().__init__(world, clients, members, aggregate, priced, team)
        self._last = last

    def calls(self, children: Sequence[int], state: object, moment: Moment) -> list[ClientCall]:
        """The calls of a cohort; each client goes on from what it is for its team."""
        return [replace(call, after=self._last.get(call.client)) for call in super().calls(children, state, moment)]

    def settle(self, calls: Sequence[ClientCall], moment: Moment) -> None:
        """What some calls made of their clients is what these are for their team."""
        self._last |= {call.client: call.key for call in calls}


class TeamServer:
    """One team's server: K rounds with its clients per global round."""

    def __init__(self, world: World, team: int, clients: ClientPool, priced: Prices) -> None:
        """``clients`` reaches (at least) those that may become members of this team; ``priced`` prices any call."""
        self._world, self.team, self._clients = world, team, clients
        self._method, self._priced = tiered(world), priced
        self._schedule = self._new_schedule()
        self._ended_s = 0.0  # virtual clock when its last round ended
        self._goes_on = world.teams_plan.mode == "async"
        self._made: object = None  # of the state after its last rounds
        self._kept = Underway()  # as it is for all others: after the last rounds that were taken in
        self._last: dict[int, Key] = {}  # see ProvisionalTier

    def _new_schedule(self) -> Schedule:
        return schedule_of(self._world.clients_plan, flights_on(link_of(self._world, self.team)))

    def _tier(self, members: Sequence[int]) -> ClientTier:
        given = self._world, self._clients, members, self._step, self._priced, self.team
        return ProvisionalTier(*given, self._last) if self._goes_on else ClientTier(*given)

    def _step(self, state: object, ups: Sequence[Received[object]], context: Context) -> object:
        return self._method.team_step(state, ups, context)

    @single_thread()
    def run(self, call: TeamCall) -> TeamReply:
        """Make the team's K rounds of one global round, from the global server's message to the team's upload.

        A team round in which nobody's upload counts leaves the team's state as it is.

        Raises:
            StrataError: what broke the call of one of its clients.
        """
        return at_once(self.rounds(call))

    def rounds(self, call: TeamCall) -> Pausing[TeamReply]:
        """The rounds that :meth:`run` makes, with a pause in each once its clients are called.

        Raises:
            StrataError: what broke the call of one of its clients.
        """
        tier, busy = self._tier(call.members), Stopwatch()
        self._schedule.dropped(call.members)
        reply = yield from watched(busy, self._rounds(call, tier))
        return replace(reply, spent=Spent(reply.spent.trained, {here(): busy.seconds - tier.waited.seconds}))

    def _rounds(self, call: TeamCall, tier: ClientTier) -> Pausing[TeamReply]:
        world, method = self._world, self._method
        state = method.start_team(call.down, self._kept.state)
        bytes_down, top, own = count_bytes(call.down), world.server_profile, world.team_profile
        alone_s = transfer_s(bytes_down, own.down_bytes_per_s, top.up_bytes_per_s)
        seconds, rounds_s = own.latency_s + (alone_s if call.download_s is None else call.download_s), 0.0
        # One that a deadline did not wait for may be called again before its rounds have ended.
        self._schedule.passed(max(0.0, call.virtual_s - self._ended_s) + seconds)
        self._schedule.renewed()
        outcomes: list[Outcome] = []
        senders: set[int] = set()
        for team_round in range(1, method.team_rounds + 1):
            moment = Moment(call.round, team_round, call.decisions, call.virtual_s + seconds)
            step = yield from self._schedule.exchange(tier, state, moment)
            computed_s, computed = tier.desk.take()
            self._schedule.passed(computed_s)
            outcome = tier.outcome(state, step)
            outcomes.append(replace(outcome, metrics=added([outcome.metrics, computed])) if computed else outcome)
            senders |= {up.sender for up in step.ups}
            state, seconds = step.state, seconds + step.seconds + computed_s
            rounds_s += step.seconds + computed_s
        self._made, self._ended_s = state, call.virtual_s + seconds
        if not self._goes_on:
            self._kept = self._underway()
        up = method.to_global(state)
        bytes_up = count_bytes(up)
        return TeamReply(
            team=self.team,
            up=up,
            samples=int(world.train_samples[sorted(senders)].sum()),
            seconds=seconds + transfer_s(bytes_up, own.up_bytes_per_s, top.down_bytes_per_s),
            straggling=[value for outcome in outcomes for value in outcome.straggling],
            calls=CallTable.joined([outcome.calls for outcome in outcomes]),
            bytes_down=bytes_down,
            bytes_up=bytes_up,
            rounds_s=rounds_s,
            metrics=_over_rounds([outcome.metrics for outcome in outcomes]),
            singly=added(outcome.singly for outcome in outcomes),
            spent=together(outcome.spent for outcome in outcomes),
            underway=self._underway().bare if self._goes_on else None,
        )

    def _underway(self) -> Underway:
        """The team as its last rounds have left it."""
        return Underway(self._made, self._schedule.capture(), self._ended_s)

    @single_thread()
    def evaluate(self, shared: Mapping[str, Params], members: Sequence[int]) -> Evaluations:
        """Evaluate ``shared``, the team's model (TM) and personal ones on the members' test data; scores by client id.

        A team that has not had a round yet has the global model as its own, where there is one.
        """
        models = dict(shared)
        if self._kept.state is not None:
            models["TM"] = self._method.team_model(self._kept.state)
        elif "GM" in shared:
            models["TM"] = shared["GM"]
        return self._tier(members).evaluate(models, members)

    def settle(self, round: int) -> None:
        """What its last rounds made of the team, and of its clients, is so from this round on."""
        self._kept = self._underway()
        self._clients.settle(list(self._last.values()), round)
        self._last.clear()

    def snapshot(self) -> object:
        """The team's state; None before its first round. With what is in flight, or remembered, by its schedule."""
        self.settled()
        keeps = self._world.clients_plan.mode in ("async", "given")
        return self._kept if keeps else self._kept.state

    def restore(self, state: object) -> None:
        """Take up again a state that :meth:`snapshot` gave."""
        self.settled()
        self._kept = state if isinstance(state, Underway) else Underway(state)
        self._made, self._ended_s = self._kept.state, self._kept.virtual_s
        self._last.clear()
        self._schedule = self._new_schedule()  # one of somebody's own may remember what is not so yet
        self._schedule.restore(self._kept.aloft, self._tier([]).remade)

    def settled(self) -> None:
        """Wait until clients have done all that this server asked of them, before another asks something of them."""
        if self._world.settles_later:
            self._clients.states([], 0)


def _over_rounds(metrics: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Numbers of several rounds of a team, added up; what is in flight is so after the last."""
    total = added(metrics)
    return {name: metrics[-1][name] if name == f"{ASYNC}{IN_FLIGHT}" else value for name, value in total.items()}


class LocalTeams:
    """Team servers in this process, as a :class:`~.pools.TeamPool`."""

    def __init__(self, world: World, clients: ClientPool, teams: Iterable[int]) -> None:
        """One :class:`TeamServer` per team of ``teams``, all reaching the same clients."""
        priced = Prices(world)
        self._servers = {team: TeamServer(world, team, clients, priced) for team in teams}
        self._queue = Queue(self._make, len(self._servers), lambda call: call.team)

    def submit(self, calls: Sequence[TeamCall]) -> Sequence[Ticket]:
        """Note the calls; teams run once something is asked for that rests on them."""
        return self._queue.submit(calls)

    def results(self, tickets: Sequence[Ticket]) -> Iterator[TeamReply | Failure]:
        """Run the teams side by side once a reply is asked for; a team's round that breaks is a failure.

        Asking again gives the same.
        """
        return self._queue.results(cast(Sequence[Queued[TeamCall, TeamReply]], tickets))

    def run(self, calls: Sequence[TeamCall]) -> list[TeamReply | Failure]:
        """Make the rounds of some teams and give what came of each: :meth:`results` at once, as an actor answers."""
        return list(self.results(self.submit(calls)))

    @single_thread()
    def _make(self, calls: Sequence[TeamCall]) -> list[TeamReply | Failure]:
        """Let the teams take turns, so that the clients of all can be called before those of the first have to answer.

        Then clients of several teams can be trained as one.
        """
        running = {call.team: self._servers[call.team].rounds(call) for call in calls}
        replies: dict[int, TeamReply | Failure] = {}
        while running:
            for team in list(running):
                try:
                    next(running[team])
                    continue
                except StopIteration as stop:
                    replies[team] = stop.value
                except Exception as error:
                    replies[team] = Failure(error)
                del running[team]
        return [replies[call.team] for call in calls]

    def evaluate(self, shared: Mapping[str, Params], topology: Topology) -> Evaluations:
        """Evaluate the clients of all teams on their own test data, team by team; scores by client id."""
        self._queue.finish()
        return merge(self._servers[team].evaluate(shared, members) for team, members in topology.items())

    def settle(self, teams: Sequence[int], round: int) -> None:
        """What their last rounds made of some teams, and of their clients, is so from this round on."""
        for team in teams:
            self._servers[team].settle(round)

    def settled(self) -> None:
        """Wait until all that was settled is so wherever clients live."""
        for server in self._servers.values():
            server.settled()

    def snapshot(self) -> dict[int, object]:
        """Team states by team id; None before the first round."""
        self._queue.finish()
        return {team: server.snapshot() for team, server in self._servers.items()}

    def restore(self, teams: Mapping[int, object]) -> None:
        """Give each team server its state, or none; calls that were handed over and not made yet are forgotten."""
        self._queue.forget()
        for team, server in self._servers.items():
            server.restore(teams.get(team))
