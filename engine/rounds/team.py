"""Team servers: their rounds with their clients; and teams as the children of the global server."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

from strata.engine.clock.delays import transfer_s
from strata.engine.data.dataset import IntArray
from strata.engine.determinism import single_thread
from strata.engine.errors import TopologyError
from strata.engine.method.algorithm import TieredAlgorithm
from strata.engine.method.calls import CallTable
from strata.engine.method.messages import Context, Received
from strata.engine.params import Params
from strata.engine.rounds.buffered import schedule_of
from strata.engine.rounds.cohort import ClientTier, choose, cohort_size
from strata.engine.rounds.costs import Prices
from strata.engine.rounds.pools import (
    ClientPool,
    Evaluations,
    Failure,
    Outcome,
    Queue,
    Queued,
    TeamCall,
    TeamPool,
    TeamReply,
    Ticket,
    Topology,
    added,
    merge,
)
from strata.engine.rounds.records import IN_FLIGHT
from strata.engine.rounds.schedules import Moment, Pausing, Step, at_once, watched
from strata.engine.rounds.world import World, teams_by_client
from strata.engine.seeding import derive
from strata.engine.state.snapshot import Aloft, Flying, Snapshot, Underway
from strata.engine.stopwatch import Spent, Stopwatch, here, together
from strata.engine.tree import count_bytes

Tiered = TieredAlgorithm[object, object, object, object, object, object, object]


def tiered(world: World) -> Tiered:
    """The method of a run with teams, as a type checker wants it; a flat method is an AssertionError."""
    assert isinstance(world.algorithm, TieredAlgorithm)
    return world.algorithm


class TeamServer:
    """One team's server: K rounds with its clients per global round."""

    def __init__(self, world: World, team: int, clients: ClientPool) -> None:
        """``clients`` reaches (at least) those that may become members of this team."""
        self._world, self.team, self._clients = world, team, clients
        self._method, self._price_s = tiered(world), Prices(world)
        self._schedule = schedule_of(world.clients_plan)
        self._state: object = None
        self._ended_s = 0.0  # virtual clock when its last round ended
        self._lone = world.clients_plan.mode == "async"

    def _tier(self, members: Sequence[int]) -> ClientTier:
        return ClientTier(self._world, self._clients, members, self._method.team_step, self._price_s, self.team)

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
        state = method.start_team(call.down, self._state)
        bytes_down, top, own = count_bytes(call.down), world.server_profile, world.team_profile
        seconds = own.latency_s + transfer_s(bytes_down, own.down_bytes_per_s, top.up_bytes_per_s)
        self._schedule.passed(call.virtual_s - self._ended_s + seconds)
        self._schedule.renewed()
        outcomes, senders = [], set()
        for team_round in range(1, method.team_rounds + 1):
            step = yield from self._schedule.exchange(tier, state, Moment(call.round, team_round, call.decisions))
            outcomes.append(tier.outcome(state, step))
            senders |= {up.sender for up in step.ups}
            state, seconds = step.state, seconds + step.seconds
        self._state, self._ended_s = state, call.virtual_s + seconds
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
            metrics=_over_rounds([outcome.metrics for outcome in outcomes]),
            singly=added(outcome.singly for outcome in outcomes),
            spent=together(outcome.spent for outcome in outcomes),
        )

    @single_thread()
    def evaluate(self, shared: Mapping[str, Params], members: Sequence[int]) -> Evaluations:
        """Evaluate ``shared``, the team's model (TM) and personal ones on the members' test data; scores by client id.

        A team that has not had a round yet has the global model as its own, where there is one.
        """
        models = dict(shared)
        if self._state is not None:
            models["TM"] = self._method.team_model(self._state)
        elif "GM" in shared:
            models["TM"] = shared["GM"]
        return self._tier(members).evaluate(models, members)

    def snapshot(self) -> object:
        """The team's state; None before its first round. With what is in flight, where it does not wait for all."""
        if not self._lone:
            return self._state
        self._settled()
        return Underway(self._state, self._schedule.capture(), self._ended_s)

    def restore(self, state: object) -> None:
        """Take up again a state that :meth:`snapshot` gave."""
        self._settled()
        aloft = Aloft()
        if isinstance(state, Underway):
            self._ended_s, aloft, state = state.virtual_s, state.aloft, state.state
        self._state = state
        self._schedule.restore(aloft, self._tier([]).remade)

    def _settled(self) -> None:
        """Wait until clients have done all that this server asked of them, before another asks for their states."""
        if self._lone:
            self._clients.states([], 0)


def _over_rounds(metrics: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Numbers of several rounds of a team, added up; what is in flight is so after the last."""
    total = added(metrics)
    return {name: metrics[-1][name] if name == IN_FLIGHT else value for name, value in total.items()}


class LocalTeams:
    """All team servers in this process, as a :class:`~.pools.TeamPool`."""

    def __init__(self, world: World, clients: ClientPool) -> None:
        """One :class:`TeamServer` per team, all reaching the same clients."""
        self._servers = {team: TeamServer(world, team, clients) for team in world.data.teams}
        self._queue = Queue(self._make, len(self._servers), lambda call: call.team)

    def submit(self, calls: Sequence[TeamCall]) -> Sequence[Ticket]:
        """Note the calls; teams run once something is asked for that rests on them."""
        return self._queue.submit(calls)

    def results(self, tickets: Sequence[Ticket]) -> Iterator[TeamReply | Failure]:
        """Run the teams side by side once a reply is asked for; a team's round that breaks is a failure.

        Asking again gives the same.
        """
        return self._queue.results(cast(Sequence[Queued[TeamCall, TeamReply]], tickets))

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

    def snapshot(self) -> dict[int, object]:
        """Team states by team id; None before the first round."""
        self._queue.finish()
        return {team: server.snapshot() for team, server in self._servers.items()}

    def restore(self, teams: Mapping[int, object]) -> None:
        """Give each team server its state, or none; calls that were handed over and not made yet are forgotten."""
        self._queue.forget()
        for team, server in self._servers.items():
            server.restore(teams.get(team))


class TeamTier:
    """The teams as the children of the global server: a :class:`~.schedules.Tier`."""

    def __init__(self, world: World, teams: TeamPool) -> None:
        """``teams`` reaches all of them; members are those that teams were formed with, until the method regroups."""
        self._world, self._teams, self._method = world, teams, tiered(world)
        self._topology: Topology = world.data.teams
        self._team_of = world.team_of
        self.plan = world.teams_plan
        self.waited = Stopwatch()  # from handing calls over to their last reply

    def invite(self, moment: Moment, away: Collection[int] = ()) -> list[int]:
        """The teams that take part in a global round, by id."""
        teams = sorted(self._topology)
        return choose(teams, cohort_size(self.plan, len(teams)), self._world.seed, "teams", moment.round)

    @property
    def team_of(self) -> IntArray:
        """The team of each client as it is now, ``(N,)``, by client id."""
        return self._team_of

    def clients(self, children: Sequence[int]) -> list[int]:
        """The clients that are now in some teams; ids, ascending."""
        return sorted(client for team in children for client in self._topology[team])

    def calls(self, children: Sequence[int], state: object, moment: Moment) -> list[TeamCall]:
        """What each team is sent; where the method gives several teams one object, it travels once."""
        decided = {} if moment.decisions is None else moment.decisions.teams
        calls = []
        for team in children:
            info = self._world.team_info(team, self._topology[team])
            down = self._method.to_team(state, info, decided.get(team, {}), self._context(moment))
            members = self._topology[team]
            calls.append(TeamCall(team, moment.round, members, down, moment.decisions, moment.virtual_s))
        return calls

    def submit(self, calls: Sequence[TeamCall]) -> Sequence[Ticket]:
        """Let teams make their rounds, side by side."""
        with self.waited:
            return self._teams.submit(calls)

    def results(self, tickets: Sequence[Ticket]) -> Iterator[TeamReply | Failure]:
        """The replies of the teams, in the order in which they come."""
        return self.waited.over(self._teams.results(tickets))

    def received(self, call: TeamCall, reply: TeamReply, state: object, staleness: int = 0) -> Received[object]:
        """A team's upload as the method receives it, with the samples of the clients whose uploads counted."""
        return Received(reply.team, reply.samples, reply.up)

    def aggregate(self, state: object, ups: Sequence[Received[object]], moment: Moment) -> object:
        """The global state after the method's step over the teams' uploads."""
        return self._method.global_step(state, ups, self._context(moment))

    def price_s(self, call: TeamCall) -> float:
        """Virtual seconds that a team takes at least; that is none, as far as is known before its rounds."""
        return 0.0

    def settle(self, calls: Sequence[TeamCall], moment: Moment) -> None:
        """Do nothing: a team is what it has become as soon as it answers."""

    def remade(self, flying: Flying, down: object) -> TeamCall:
        """A call that was in flight when the run was saved, as it was handed over."""
        return TeamCall(flying.receiver, flying.round, self._topology[flying.receiver], down)

    def outcome(self, before: object, step: Step[TeamReply]) -> Outcome:
        """All calls of the teams' clients, by team; straggling is that of the teams' cohorts."""
        return Outcome(
            seconds=step.seconds,
            straggling=[value for reply in step.replies for value in reply.straggling],
            calls=CallTable.joined([reply.calls for reply in step.replies]),
            counted=step.counted,
            bytes_team_down=sum(reply.bytes_down for reply in step.replies),
            bytes_team_up=sum(reply.bytes_up for reply in step.replies),
            late_teams=sum(reply.is_late for reply in step.replies),
            teams=len(step.replies),
            metrics=added(reply.metrics for reply in step.replies),
            singly=added(reply.singly for reply in step.replies),
            spent=together(reply.spent for reply in step.replies),
        )

    def finish(self, state: object, moment: Moment) -> None:
        """Let the method form its teams anew after a round, if it does such a thing; they hold from the next round on.

        Raises:
            TopologyError: when somebody is in no team or in two, or a team is new, gone or empty.
        """
        if self._method.regroups:
            formed = self._method.regroup(state, self._topology, self._context(moment))
            _check(formed, self._topology, moment.round)
            # A method may have counted with numpy, whose numbers are not what calls and checkpoints hold.
            self._adopt({int(team): sorted(map(int, members)) for team, members in sorted(formed.items())})

    def _adopt(self, topology: Topology) -> None:
        self._topology = topology
        self._team_of = teams_by_client(topology, len(self._world.data.clients))

    def evaluate(self, shared: Mapping[str, Params], clients: Sequence[int]) -> Evaluations:
        """Evaluate the shared, the teams' and the personal models on some clients' test data; scores by client id."""
        chosen: dict[int, list[int]] = {team: [] for team in self._topology}
        for client, team in zip(clients, self._team_of[list(clients)].tolist(), strict=True):
            chosen[team].append(client)
        return self._teams.evaluate(shared, {team: members for team, members in chosen.items() if members})

    def capture(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot of the global state, completed with the teams', and with who is in which team.

        Who is in which team is left out (None) where the method does not regroup: it is as it was formed at the start.
        """
        topology = self._topology if self._method.regroups else None
        return replace(snapshot, teams=self._teams.snapshot(), topology=topology)

    def restore(self, snapshot: Snapshot) -> None:
        """Give teams the states of a snapshot; and their members, where the snapshot has them."""
        if snapshot.topology is not None:
            self._adopt(snapshot.topology)
        self._teams.restore(snapshot.teams)

    def _context(self, moment: Moment) -> Context:
        return Context(moment.round, 0, derive(self._world.seed, "server", moment.round))


def _check(formed: Topology, before: Topology, round: int) -> None:
    everyone = sorted(client for members in before.values() for client in members)
    if set(formed) != set(before) or sorted(c for members in formed.values() for c in members) != everyone:
        raise TopologyError(
            f"round {round}: the method formed other teams: expected teams {sorted(before)}, and each of the "
            f"{len(everyone)} clients in one of them."
        )
    if empty := [team for team, members in formed.items() if not len(members)]:
        raise TopologyError(f"round {round}: the method left team {empty[0]} without a client; expected one at least.")
