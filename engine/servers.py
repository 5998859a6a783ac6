"""The server tiers and the round logic, written once. Free of Ray: actors are shells around these classes.

A cohort is what a server invites in one go: a team's clients in a team round, or, in a flat method, the global server's
clients in a round; the global server's teams in a tiered one.

Whatever calls a method does so with one torch thread, so that its sums do not depend on the machine's cores.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from engine.algorithm import Assignment, FlatAlgorithm, Received, TieredAlgorithm
from engine.clients import (
    ClientPool,
    ClientReply,
    EvaluationCall,
    Evaluations,
    assignments_for,
    client_calls,
    probe_calls,
)
from engine.control import Decisions
from engine.delays import available, straggling_s, transfer_s
from engine.determinism import single_thread
from engine.messages import Params, count_bytes
from engine.records import CallRecord
from engine.seeding import derive, generator
from engine.world import TierPlan, World


@dataclass(frozen=True)
class Outcome:
    """What a global round amounts to, before it is scored.

    Attributes:
        seconds: virtual length of the round.
        straggling: max − min seconds of each cohort of clients.
        calls: every client call, in order of team round, team and client.
        counted: uploads that entered the global step: clients', or, in a tiered method, teams'. 0: it was not made.
        late_teams: teams dropped by the team tier's deadline.
    """

    seconds: float
    straggling: Sequence[float]
    calls: Sequence[CallRecord]
    counted: int = 0
    bytes_team_down: int = 0
    bytes_team_up: int = 0
    late_teams: int = 0
    teams: int = 0


@dataclass(frozen=True)
class TeamCall:
    """The start of a global round for one team."""

    team: int
    round: int
    down: Any
    assignments: Mapping[int, Assignment] | None = None


@dataclass(frozen=True)
class TeamReply:
    """What a team returns after its rounds: upload, virtual seconds from invitation to the end of its upload, calls."""

    team: int
    samples: int
    up: Any
    seconds: float
    straggling: Sequence[float]
    calls: Sequence[CallRecord]
    bytes_down: int
    bytes_up: int


class TeamPool(Protocol):
    """How the global server reaches team servers, wherever they live. Replies come in the order of the calls."""

    def run(self, calls: Sequence[TeamCall]) -> list[TeamReply]:
        """Run the teams' rounds side by side."""

    def evaluate(self, shared: Mapping[str, Params]) -> Evaluations:
        """Evaluate all teams' clients."""

    def snapshot(self) -> tuple[dict[int, Any], dict[int, Any]]:
        """Team states and client states, each by id."""

    def restore(self, teams: Mapping[int, Any], clients: Mapping[int, Any]) -> None:
        """Put both back."""


def choose(members: Sequence[int], size: int, seed: int, *purpose: str | int) -> list[int]:
    """``size`` of the members (all, if there are fewer), drawn without replacement, in ascending order."""
    if size >= len(members):
        return sorted(members)
    drawn = generator(seed, *purpose).choice(len(members), size=size, replace=False)
    return sorted(members[int(i)] for i in drawn)


def cohort_size(plan: TierPlan, children: int) -> int:
    """How many of a server's children are invited per round: their share, rounded, and at least one."""
    return max(1, round(plan.participation * children))


def invite_clients(world: World, members: Sequence[int], round: int, team_round: int, team: int) -> list[int]:
    """The cohort among the members that are available now; empty when none is."""
    here = available(world.availability, members, world.seed, (round, team_round))
    size = cohort_size(world.clients_plan, len(members))
    return choose(here, size, world.seed, "cohort", round, team_round, team)


def invite_teams(world: World, round: int) -> list[int]:
    """The teams of a global round."""
    teams = sorted(world.data.teams)
    return choose(teams, cohort_size(world.teams_plan, len(teams)), world.seed, "teams", round)


@dataclass(frozen=True)
class Gathered:
    """A cohort's result: the uploads that count (by client id), how long it took, all call records."""

    ups: Sequence[Received[Any]]
    seconds: float
    straggling: float
    calls: Sequence[CallRecord]


def gather(replies: Sequence[ClientReply], plan: TierPlan) -> Gathered:
    """Close a cohort: drop what is lost or late, and compute how long its server waited.

    A synchronous server waits for its slowest client; one with a deadline waits no longer than that. A lost client is
    waited for until it is lost. Stragglers are measured over the clients whose uploads count.
    """
    limit = plan.deadline_s if plan.mode == "deadline" else float("inf")
    ups, records, waited = [], [], [0.0]
    for reply in replies:
        record = reply.record
        if record.status == "ok" and record.total_s > limit:
            record = replace(record, status="late")
        waited.append(min(record.total_s, limit))
        records.append(record)
        if record.status == "ok":
            ups.append(Received(reply.client, 0, reply.up))
    on_time = [record.total_s for record in records if record.status == "ok"]
    return Gathered(ups, max(waited), straggling_s(on_time), records)


def run_cohort(
    world: World,
    clients: ClientPool,
    members: Sequence[int],
    state: Any,
    round: int,
    team_round: int,
    team: int,
    decided: Mapping[int, Assignment] | None,
) -> Gathered:
    """One server's exchange with its clients: invite, call, gather.

    ``decided``: what clients are told this round; of those invited, the clients in it take part. None: all of them, as
    the method's default says.
    """
    cohort = invite_clients(world, members, round, team_round, team)
    if decided is not None:
        cohort = [client for client in cohort if client in decided]
    told = assignments_for(world, cohort, decided)
    gathered = gather(clients.run(client_calls(world, cohort, state, round, team_round, told)), world.clients_plan)
    ups = [replace(up, samples=world.infos[up.sender].train_samples, assignment=told[up.sender]) for up in gathered.ups]
    return replace(gathered, ups=ups)


class TeamServer:
    """One team's server: K rounds with its clients per global round."""

    def __init__(self, world: World, team: int, clients: ClientPool) -> None:
        """``clients`` reaches (at least) this team's members."""
        self._world, self.team, self._clients = world, team, clients
        self._members = list(world.data.teams[team])
        self._method: TieredAlgorithm[Any, Any, Any, Any, Any, Any, Any] = _tiered(world)
        self._state: Any = None

    @single_thread()
    def run(self, call: TeamCall) -> TeamReply:
        """Make the team's rounds of one global round.

        A team round in which nobody's upload counts leaves the team's state as it is.
        """
        world, method = self._world, self._method
        state = method.start_team(call.down, self._state)
        top, own = world.server_profile, world.team_profile
        bytes_down = count_bytes(call.down)
        seconds = own.latency_s + transfer_s(bytes_down, own.down_bytes_per_s, top.up_bytes_per_s)
        straggling: list[float] = []
        calls: list[CallRecord] = []
        senders: set[int] = set()
        for team_round in range(1, method.team_rounds + 1):
            cohort = run_cohort(
                world, self._clients, self._members, state, call.round, team_round, self.team, call.assignments
            )
            if cohort.ups:
                state = method.team_step(state, cohort.ups)
                straggling.append(cohort.straggling)
            senders |= {up.sender for up in cohort.ups}
            seconds += cohort.seconds
            calls += cohort.calls
        self._state = state
        up = method.to_global(state)
        bytes_up = count_bytes(up)
        seconds += transfer_s(bytes_up, own.up_bytes_per_s, top.down_bytes_per_s)
        samples = sum(world.infos[client].train_samples for client in senders)
        return TeamReply(self.team, samples, up, seconds, straggling, calls, bytes_down, bytes_up)

    @single_thread()
    def evaluate(self, shared: Mapping[str, Params]) -> Evaluations:
        """Evaluate the team's clients; adds the team's own model as TM."""
        models = dict(shared)
        if self._state is not None:
            models["TM"] = self._method.team_model(self._state)
        elif "GM" in shared:
            models["TM"] = shared["GM"]
        return self._clients.evaluate(EvaluationCall(self._members, models))

    def snapshot(self) -> tuple[Any, dict[int, Any]]:
        """The team's state (None before its first round) and its clients' states."""
        return self._state, self._clients.states(self._members)

    def restore(self, state: Any, clients: Mapping[int, Any]) -> None:
        """Put back what :meth:`snapshot` gave."""
        self._state = state
        self._clients.restore({client: clients[client] for client in self._members if client in clients})


class LocalTeams:
    """All team servers in this process, as a :class:`TeamPool`."""

    def __init__(self, world: World, clients: ClientPool) -> None:
        """One :class:`TeamServer` per team, all reaching the same clients."""
        self._servers = {team: TeamServer(world, team, clients) for team in world.data.teams}

    def run(self, calls: Sequence[TeamCall]) -> list[TeamReply]:
        """Run the teams one after the other."""
        return [self._servers[call.team].run(call) for call in calls]

    def evaluate(self, shared: Mapping[str, Params]) -> Evaluations:
        """Evaluate team by team."""
        return merge(server.evaluate(shared) for server in self._servers.values())

    def snapshot(self) -> tuple[dict[int, Any], dict[int, Any]]:
        """Team states and client states, each by id."""
        taken = {team: server.snapshot() for team, server in self._servers.items()}
        return {team: state for team, (state, _) in taken.items()}, merge(clients for _, clients in taken.values())

    def restore(self, teams: Mapping[int, Any], clients: Mapping[int, Any]) -> None:
        """Put both back."""
        for team, server in self._servers.items():
            server.restore(teams.get(team), clients)


@dataclass(frozen=True)
class Snapshot:
    """All state of a federation at the end of a round, by owner."""

    round: int
    virtual_s: float
    server: Any
    teams: Mapping[int, Any]
    clients: Mapping[int, Any]


class GlobalServer:
    """The top of the federation: holds the global state and the virtual clock."""

    def __init__(self, world: World, clients: ClientPool, teams: TeamPool | None) -> None:
        """``teams`` is None for flat methods, whose clients the global server reaches itself."""
        self._world, self._clients, self._teams = world, clients, teams
        with single_thread():
            self.state = world.algorithm.init_global(derive(world.seed, "global"))
        self.round = 0
        self.virtual_s = 0.0
        self._probes: list[CallRecord] = []  # of the round to come

    def invite(self) -> list[int]:
        """Who is invited to the next round: its cohort, or, in a tiered method, the members of its teams."""
        round, world = self.round + 1, self._world
        if self._teams is None:
            return invite_clients(world, range(len(world.data.clients)), round, 1, -1)
        return sorted(c for team in invite_teams(world, round) for c in world.data.teams[team])

    @single_thread()
    def probe(self, clients: Sequence[int]) -> list[CallRecord]:
        """Assess the speed of clients before the next round, which becomes longer by the slowest of them."""
        replies = self._clients.run(probe_calls(self._world, clients, self.state, self.round + 1))
        self._probes = [reply.record for reply in replies]
        return self._probes

    @single_thread()
    def run_round(self, decisions: Decisions | None = None) -> Outcome:
        """One global round; a round in which nobody's upload counts leaves the global state as it is.

        ``decisions``: what clients and server are told; None leaves it to the method's defaults.
        """
        run = self._flat_round if self._teams is None else self._tiered_round
        before = self.state
        if decisions is not None and decisions.server:
            self.state = self._world.algorithm.steer(before, decisions.server)
        outcome = run(self.round + 1, None if decisions is None else decisions.clients)
        if not outcome.counted:  # what was decided for this round ends with it
            self.state = before
        if self._probes:
            probe_s = max(record.total_s for record in self._probes)
            outcome = replace(outcome, seconds=outcome.seconds + probe_s, calls=[*self._probes, *outcome.calls])
            self._probes = []
        self.round += 1
        self.virtual_s += outcome.seconds
        return outcome

    def _flat_round(self, round: int, decided: Mapping[int, Assignment] | None) -> Outcome:
        world = self._world
        method: FlatAlgorithm[Any, Any, Any, Any] = _flat(world)
        members = range(len(world.data.clients))
        cohort = run_cohort(world, self._clients, members, self.state, round, 1, -1, decided)
        calls = list(cohort.calls)
        if cohort.ups:
            before, self.state = self.state, method.global_step(self.state, cohort.ups)
            found = method.assess(before, cohort.ups, self.state)
            calls = [replace(call, metrics={**call.metrics, **found.get(call.client, {})}) for call in calls]
        straggling = [cohort.straggling] if cohort.ups else []
        return Outcome(cohort.seconds + world.server_profile.latency_s, straggling, calls, len(cohort.ups))

    def _tiered_round(self, round: int, decided: Mapping[int, Assignment] | None) -> Outcome:
        world, plan = self._world, self._world.teams_plan
        method = _tiered(world)
        assert self._teams is not None
        down = method.to_team(self.state)
        chosen = invite_teams(world, round)
        replies = self._teams.run([TeamCall(team, round, down, decided) for team in chosen])
        limit = plan.deadline_s if plan.mode == "deadline" else float("inf")
        on_time = [reply for reply in replies if reply.seconds <= limit]
        # A team that nobody answered has nothing to say: its model is the global one it was sent.
        ups = [Received(reply.team, reply.samples, reply.up) for reply in on_time if reply.samples]
        if ups:
            self.state = method.global_step(self.state, ups)
        return Outcome(
            seconds=max(min(reply.seconds, limit) for reply in replies) + world.server_profile.latency_s,
            straggling=[value for reply in replies for value in reply.straggling],
            calls=[call for reply in replies for call in reply.calls],
            counted=len(ups),
            bytes_team_down=sum(reply.bytes_down for reply in replies),
            bytes_team_up=sum(reply.bytes_up for reply in replies),
            late_teams=len(replies) - len(on_time),
            teams=len(replies),
        )

    @single_thread()
    def evaluate(self) -> Evaluations:
        """Evaluate every model on every client's test data; costs no virtual time."""
        model = self._world.algorithm.global_model(self.state)
        shared = {} if model is None else {"GM": model}
        if self._teams is not None:
            return self._teams.evaluate(shared)
        return self._clients.evaluate(EvaluationCall(range(len(self._world.data.clients)), shared))

    def snapshot(self) -> Snapshot:
        """All state, wherever it lives."""
        if self._teams is not None:
            teams, clients = self._teams.snapshot()
        else:
            teams, clients = {}, self._clients.states(range(len(self._world.data.clients)))
        return Snapshot(self.round, self.virtual_s, self.state, teams, clients)

    def restore(self, snapshot: Snapshot) -> None:
        """Continue from a snapshot."""
        self.round, self.virtual_s, self.state = snapshot.round, snapshot.virtual_s, snapshot.server
        self._probes = []
        if self._teams is not None:
            self._teams.restore(snapshot.teams, snapshot.clients)
        else:
            self._clients.restore(snapshot.clients)


def merge(parts: Iterable[Mapping[int, Any]]) -> dict[int, Any]:
    """Join dicts with distinct ids, ordered by id."""
    joined: dict[int, Any] = {}
    for part in parts:
        joined.update(part)
    return dict(sorted(joined.items()))


def _tiered(world: World) -> TieredAlgorithm[Any, Any, Any, Any, Any, Any, Any]:
    assert isinstance(world.algorithm, TieredAlgorithm)
    return world.algorithm


def _flat(world: World) -> FlatAlgorithm[Any, Any, Any, Any]:
    assert isinstance(world.algorithm, FlatAlgorithm)
    return world.algorithm
