"""Teams as the children of the global server."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from strata.engine.data.dataset import IntArray
from strata.engine.errors import TopologyError
from strata.engine.method.calls import CallTable
from strata.engine.method.messages import Context, Received
from strata.engine.method.uploads import require_finite, require_shapes
from strata.engine.params import Params
from strata.engine.rounds.beside.desk import Desk
from strata.engine.rounds.cohort import choose
from strata.engine.rounds.flying.links import TeamLink, together_on
from strata.engine.rounds.mixing import rebased
from strata.engine.rounds.pools import (
    Evaluations,
    Failure,
    TeamCall,
    TeamPool,
    TeamReply,
    Ticket,
    Topology,
)
from strata.engine.rounds.records import TEAMS, Outcome, added
from strata.engine.rounds.schedules import Moment, Step
from strata.engine.rounds.team import tiered
from strata.engine.rounds.world import World, called_size, teams_by_client
from strata.engine.seeding import derive
from strata.engine.state.snapshot import Flying, Snapshot, Underway
from strata.engine.stopwatch import Stopwatch, together
from strata.engine.tree import between


class TeamTier:
    """The teams as the children of the global server: a :class:`~.schedules.Tier`."""

    def __init__(self, world: World, teams: TeamPool, priced: Callable[[TeamCall, Underway | None], TeamReply]) -> None:
        """Start with the members that teams were formed with; they stay until the method regroups.

        Args:
            world: the run.
            teams: reaches all teams.
            priced: a team's reply as far as it is known before its rounds are made, given what is under way in it.
        """
        self._priced = priced
        self._underway: dict[int, Underway | None] = {}  # of each team at the end of its last rounds
        self._world, self._teams, self._method = world, teams, tiered(world)
        self._topology: Topology = world.data.teams
        self._members = called_members(world, self._topology)
        self._team_of = world.team_of
        self.plan = world.teams_plan
        self.link = TeamLink(world) if world.server_shares else None
        self.desk = Desk(world, world.server_profile)
        self.waited = Stopwatch()  # from handing calls over to their last reply

    def invite(self, moment: Moment, away: Collection[int] = ()) -> list[int]:
        """The teams that take part in a global round, by id."""
        teams = sorted(self._topology)
        here = [team for team in teams if team not in away]
        return choose(here, called_size(self.plan, len(teams), len(away)), self._world.seed, "teams", moment.round)

    @property
    def team_of(self) -> IntArray:
        """The team of each client as it is now, ``(N,)``, by client id."""
        return self._team_of

    def clients(self, children: Sequence[int]) -> list[int]:
        """The clients that are now in some teams and may be called; ids, ascending."""
        return sorted(client for team in children for client in self._members[team])

    def calls(self, children: Sequence[int], state: object, moment: Moment) -> list[TeamCall]:
        """What each team is sent; where the method gives several teams one object, it travels once."""
        decided = {} if moment.decisions is None else moment.decisions.teams
        calls = []
        for team in children:
            info = self._world.team_info(team, self._members[team])
            down = self._method.to_team(state, info, decided.get(team, {}), self._context(moment.round))
            members = self._members[team]
            calls.append(TeamCall(team, moment.round, members, down, moment.decisions, moment.virtual_s))
        if self.link is None or self.plan.mode == "async":  # then others may be called meanwhile, and it is not known
            return calls
        return [replace(call, download_s=s) for call, s in zip(calls, self.link.downloads_s(calls), strict=True)]

    def submit(self, calls: Sequence[TeamCall]) -> Sequence[Ticket]:
        """Let teams make their rounds, side by side."""
        with self.waited:
            return self._teams.submit(calls)

    def results(self, tickets: Sequence[Ticket]) -> Iterator[TeamReply | Failure]:
        """The replies of the teams, in the order in which they come."""
        for result in self.waited.over(self._teams.results(tickets)):
            if isinstance(result, TeamReply):
                self._underway[result.team] = result.underway
            yield result

    def priced(self, call: TeamCall) -> TeamReply:
        """A team's reply as far as it is known before its rounds are made."""
        return self._priced(call, self._underway.get(call.team))

    def side_by_side(self, replies: Sequence[TeamReply], moment: Moment) -> Sequence[TeamReply]:
        """The replies of teams with the seconds that they take where their transfers share the global server's link."""
        return together_on(self.link, replies, moment.virtual_s)

    def received(self, call: TeamCall, reply: TeamReply, state: object, staleness: int = 0) -> Received[object]:
        """A team's upload as the method receives it, with the samples of the clients whose uploads counted.

        Raises:
            ConfigError: when changes are to be counted, and an upload holds no model that its sender was sent.
            TrainingError: when a model comes back in another shape than it was sent in.
        """
        require_shapes(reply.up, call.down, f"team {call.team}, round {call.round}")
        up, mixing = reply.up, self.plan.mixing
        if staleness and mixing.update == "change":
            up = rebased(up, call.down, self._down(call, state), mixing.worth(staleness))
        return Received(reply.team, reply.samples, up, staleness=staleness)

    def _down(self, call: TeamCall, state: object) -> object:
        """What a team would be sent in another state of the global server, all else as it was."""
        info = self._world.team_info(call.team, call.members)
        decided = {} if call.decisions is None else call.decisions.teams
        return self._method.to_team(state, info, decided.get(call.team, {}), self._context(call.round))

    def aggregate(self, state: object, ups: Sequence[Received[object]], moment: Moment) -> object:
        """The global state after the method's step over the teams' uploads, mixed where it does not wait for all.

        Raises:
            TrainingError: when an upload that is not finite has reached the state.
        """
        context = self._context(moment.round)
        made = self._method.global_step(state, ups, context)
        after = self.desk.made(made, context.seed, f"the global server, round {moment.round}")
        require_finite(after, ups, f"team {{}}, round {moment.round}")
        return between(state, after, self.plan.mixing.share_of(ups))

    def settle(self, calls: Sequence[TeamCall], moment: Moment) -> None:
        """What their rounds made of some teams, and of their clients, is so from now on."""
        if self.plan.mode == "async":  # else it is so already
            self._teams.settle([call.team for call in calls], moment.round)

    def remade(self, flying: Flying, down: object) -> TeamCall:
        """A call that was in flight when the run was saved, as it was handed over."""
        members = self._members[flying.receiver]
        return TeamCall(flying.receiver, flying.round, members, down, flying.decisions, flying.virtual_s)

    def outcome(self, before: object, step: Step[TeamReply]) -> Outcome:
        """All calls of the teams' clients, by team; straggling is that of the teams' cohorts.

        Where the server does not wait for all teams, straggling is the time for which teams had no work.
        """
        of = TEAMS if self._world.clients_plan.mode == "async" else ""
        gap = {} if step.gap is None else step.gap.metrics(of)
        straggling = [value for reply in step.replies for value in reply.straggling]
        return Outcome(
            seconds=step.seconds,
            straggling=straggling if step.gap is None else [step.gap.idle_s],
            calls=CallTable.joined([reply.calls for reply in step.replies]),
            counted=step.counted,
            bytes_team_down=sum(reply.bytes_down for reply in step.replies),
            bytes_team_up=sum(reply.bytes_up for reply in step.replies),
            late_teams=sum(reply.is_late for reply in step.replies),
            teams=len(step.replies),
            metrics=added([*(reply.metrics for reply in step.replies), gap]),
            singly=added(reply.singly for reply in step.replies),
            spent=together(reply.spent for reply in step.replies),
        )

    def finish(self, state: object, moment: Moment, away: Collection[int]) -> None:
        """Let the method form its teams anew after a round, if it does such a thing; they hold from the next round on.

        Teams that are ``away`` on their rounds stay as they are, and of the others there must be two to change members.

        Raises:
            TopologyError: when somebody is in no team or in two, or a team is new, gone or empty.
        """
        there = {team: members for team, members in self._topology.items() if team not in away}
        if self._method.regroups and (len(there) > 1 or not away):
            self._teams.settled()
            formed = self._method.regroup(state, there, self._context(moment.round))
            _check(formed, there, self._world, moment.round)
            # A method may have counted with numpy, whose numbers are not what calls and checkpoints hold.
            anew = {int(team): sorted(map(int, members)) for team, members in formed.items()}
            self._adopt(dict(sorted({**self._topology, **anew}.items())))

    def _adopt(self, topology: Topology) -> None:
        self._topology, self._members = topology, called_members(self._world, topology)
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
        self._underway = {team: own.bare for team, own in snapshot.teams.items() if isinstance(own, Underway)}
        self._teams.restore(snapshot.teams)

    def _context(self, round: int) -> Context:
        return Context(round, 0, derive(self._world.seed, "server", round))


def called_members(world: World, topology: Topology) -> Topology:
    """The members of each team that may be called."""
    return {team: world.called(members) for team, members in topology.items()} if world.unseen else topology


def _check(formed: Topology, before: Topology, world: World, round: int) -> None:
    everyone = sorted(client for members in before.values() for client in members)
    if set(formed) != set(before) or sorted(c for members in formed.values() for c in members) != everyone:
        raise TopologyError(
            f"round {round}: the method formed other teams: expected teams {sorted(before)}, and each of the "
            f"{len(everyone)} clients in one of them."
        )
    if empty := [team for team, members in formed.items() if not len(members)]:
        raise TopologyError(f"round {round}: the method left team {empty[0]} without a client; expected one at least.")
    if idle := [team for team, members in called_members(world, formed).items() if not len(members)]:
        raise TopologyError(
            f"round {round}: the method left team {idle[0]} with unseen clients alone; expected one that trains. Lower "
            "evaluation.unseen."
        )
