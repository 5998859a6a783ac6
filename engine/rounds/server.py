"""The global server: its state, the virtual clock, and the verbs by which everything above drives rounds.

Whatever calls a method does so with one torch thread, so that its sums do not depend on the machine's cores.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Protocol

from strata.engine.data.dataset import IntArray
from strata.engine.determinism import single_thread
from strata.engine.errors import ActionError, ConfigError
from strata.engine.method.algorithm import TieredAlgorithm
from strata.engine.method.calls import CallTable
from strata.engine.method.messages import Assignment, Context, Received
from strata.engine.method.situation import Decisions
from strata.engine.models.weighing import weighed
from strata.engine.params import Params
from strata.engine.rounds.beside.desk import Desk
from strata.engine.rounds.beside.probes import probed
from strata.engine.rounds.buffered import schedule_of
from strata.engine.rounds.cohort import FlatTier, choose
from strata.engine.rounds.costs import CallCosts, PricedClients, Prices
from strata.engine.rounds.flying.links import Link
from strata.engine.rounds.flying.shared_flights import flights_on
from strata.engine.rounds.pools import ClientPool, Evaluations, TeamCall, TeamPool, TeamReply
from strata.engine.rounds.records import SERVER, Outcome, added
from strata.engine.rounds.schedules import Called, Moment, Schedule, Step, Tier
from strata.engine.rounds.team import TeamServer
from strata.engine.rounds.team_tier import TeamTier
from strata.engine.rounds.world import TierPlan, World
from strata.engine.seeding import derive
from strata.engine.state.snapshot import Flying, Snapshot, Underway
from strata.engine.stopwatch import Spent, Stopwatch, together
from strata.engine.transport.taking import Taking


class Rounds(Protocol):
    """The verbs of a federation, wherever its tiers live."""

    def invite(self) -> list[int]:
        """Who is invited to the next round: its cohort, or, in a tiered method, the members of its teams."""

    def probe(self, clients: Sequence[int]) -> CallTable:
        """Assess the speed of clients before the next round, which becomes longer by the slowest of them."""

    def run_round(self, decisions: Decisions | None = None) -> Outcome:
        """Make one global round; without decisions the method's defaults hold."""

    def evaluate(self) -> Evaluations:
        """Evaluate every model on every client's test data; costs no virtual time."""

    def snapshot(self, since: int = -1) -> Snapshot:
        """All state of the federation, wherever it lives, as it is between two rounds.

        Of the clients' private states only those that were changed after the round ``since``.
        """

    def restore(self, snapshot: Snapshot) -> None:
        """Take all state, the number of the round and the clock from a snapshot, and continue from there."""

    def give(self, states: Mapping[int, object]) -> None:
        """Give some clients private states, by client id, after a snapshot without them was restored."""


class TopTier(Tier[Any], Protocol):
    """The children of the global server, clients or teams, and what lies below them."""

    plan: TierPlan
    waited: Stopwatch
    desk: Desk

    @property
    def link(self) -> Link[Any] | None:
        """The global server's link, where its children share it; None: each has it to itself."""

    @property
    def team_of(self) -> IntArray:
        """The team of each client as it is now, ``(N,)``, by client id; NO_TEAM without a team tier."""

    def clients(self, children: Sequence[int]) -> list[int]:
        """The clients that some children are, or that are in them; ids, ascending."""

    def outcome(self, before: object, step: Step[Any]) -> Outcome:
        """What an exchange that began with the state ``before`` came to, without the server's own latency."""

    def remade(self, flying: Flying, down: object) -> Called:
        """A call that was in flight when the run was saved, as it was handed over."""

    def finish(self, state: object, moment: Moment, away: Collection[int]) -> None:
        """Do what is due once the server has its state after a round: teams may be formed anew that are not away."""

    def evaluate(self, shared: Mapping[str, Params], clients: Sequence[int]) -> Evaluations:
        """Evaluate ``shared`` (the global model) and all others on some clients' test data; scores by client id."""

    def capture(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot of the server's state, completed with all state between the server and the clients."""

    def restore(self, snapshot: Snapshot) -> None:
        """Give all that lies between the server and the clients the state that a snapshot has for it."""


class GlobalServer:
    """The top of a federation, which implements :class:`Rounds`: it holds the global state and the virtual clock."""

    def __init__(self, world: World, tier: TopTier, clients: ClientPool) -> None:
        """Start before the first round, with a fresh global state.

        Args:
            world: the run.
            tier: the server's children.
            clients: reaches every client, for probes and for private states.

        Raises:
            ConfigError: where clients are to have personal models made of a global one, and the method has none.
        """
        self._world, self._tier, self._clients = world, tier, clients
        self._schedule = self._new_schedule()
        with single_thread():
            with weighed(f"the global state of {type(world.algorithm).__name__}", "Lower the sizes among method.…"):
                self.state = world.algorithm.init_global(derive(world.seed, "global"))
            _require_model(world, self.state)
        self.round = 0
        self.virtual_s = 0.0
        self._probes: list[CallTable] = []  # of the round to come, each table's side by side
        self._probed: list[Spent] = []
        self._busy = Stopwatch()

    def _new_schedule(self) -> Schedule:
        return schedule_of(self._tier.plan, flights_on(self._tier.link))

    def invite(self) -> list[int]:
        """Who is invited to the next round, by client id; asking again gives the same."""
        moment = Moment(self.round + 1, 1, virtual_s=self.virtual_s + (self._wait_s + self._probes_s))
        return self._tier.clients(self._tier.invite(moment, self._schedule.away))

    @single_thread()
    def probe(self, clients: Sequence[int]) -> CallTable:
        """Assess the speed of clients; the next round becomes longer by the slowest of them, each time anew."""
        with self._busy, self._tier.waited:
            replies = probed(self._world, self._clients, clients, self.state, self.round + 1, self._tier.team_of)
        self._probed.append(together(reply.spent for reply in replies))
        made = CallTable.of([reply.call for reply in replies])
        self._probes += [made] if len(made) else []
        return made

    @single_thread()
    def run_round(self, decisions: Decisions | None = None) -> Outcome:
        """Make one global round. One in which nobody's upload counts leaves the global state as it is.

        Raises:
            ActionError: for decisions that nobody would follow; nothing has happened then.
            StrataError: what broke the round.
        """
        with self._busy:
            outcome, calls, seconds = self._exchange(decisions)
        return replace(
            outcome,
            calls=calls,
            seconds=seconds,
            round=self.round,
            virtual_s=self.virtual_s,
            spent=self._spent(outcome.spent),
        )

    def _spent(self, below: Spent) -> Spent:
        """The wall seconds of a round and its probes, given those of the round's children."""
        every, self._probed = together([*self._probed, below]), []
        waited_s = self._tier.waited.take()
        return Spent(every.trained, every.served, waited_s, self._busy.take() - waited_s)

    def _exchange(self, decisions: Decisions | None) -> tuple[Outcome, CallTable, float]:
        """A round: what its exchange came to, all its calls, and how long it was."""
        if decisions is not None and decisions.teams:
            _require_teams(self._world, decisions.teams, self.round + 1)
        begins_s = self._wait_s + self._probes_s
        moment = Moment(self.round + 1, 1, decisions, self.virtual_s + begins_s)
        before = self.state
        if decisions is not None and decisions.server:
            before = self._world.algorithm.steer(before, decisions.server)
        self._schedule.passed(begins_s)
        step = self._schedule.step(self._tier, before, moment)
        computed_s, computed = self._tier.desk.take()
        self._schedule.passed(self._world.server_profile.latency_s + computed_s)
        if step.counted:  # else what was decided for this round ends with it
            self.state = step.state
        self._tier.finish(self.state, moment, self._schedule.away)
        outcome = self._tier.outcome(before, step)
        outcome = replace(outcome, metrics=added([outcome.metrics, computed])) if computed else outcome
        seconds = outcome.seconds + self._world.server_profile.latency_s + (begins_s + computed_s)
        probes, self._probes = self._probes, []
        calls = CallTable.joined([*probes, outcome.calls])
        self.round += 1
        self.virtual_s += seconds
        return outcome, calls, seconds

    @property
    def _probes_s(self) -> float:
        """Virtual seconds of the probes before the next round."""
        return sum(float(table.total_s.max()) for table in self._probes)

    @property
    def _wait_s(self) -> float:
        """Virtual seconds until a client is there at all; 0 where one is on a call already, or nobody comes again."""
        presence = self._world.presence
        if presence is None or self._schedule.away:
            return 0.0
        return presence.wait_s(self._world.seen, self.virtual_s)

    @single_thread()
    def evaluate(self) -> Evaluations:
        """Evaluate every model on the test data of all clients, or of as many as are drawn; scores by client id.

        It takes no virtual time.
        """
        model = self._world.algorithm.global_model(self.state)
        found = self._tier.evaluate({} if model is None else {"GM": model}, self._evaluated())
        if model is None or not len(self._world.data.server.test):
            return found
        return {**found, SERVER: {"GM": self._tier.desk.evaluated(model)}}

    def _evaluated(self) -> Sequence[int]:
        """All clients, or as many as are drawn of those that may be called, and of the others."""
        world, size = self._world, self._world.evaluated_clients
        if size is None:
            return self._everyone
        seen = choose(world.seen, size, world.seed, "evaluation", self.round)
        return sorted([*seen, *choose(world.unseen, size, world.seed, "evaluation", self.round, "unseen")])

    def snapshot(self, since: int = -1) -> Snapshot:
        """Snapshot of the server's state and of all state below it; of clients' only what changed after ``since``."""
        own = Snapshot(self.round, self.virtual_s, self.state, aloft=self._schedule.capture())
        between = self._tier.capture(own)
        return replace(between, clients=self._clients.states(self._everyone, since))

    def restore(self, snapshot: Snapshot) -> None:
        """Take all state, the round and the clock from a snapshot; probes for a round to come are forgotten."""
        self.round, self.virtual_s, self.state = snapshot.round, snapshot.virtual_s, snapshot.server
        self._probes = []
        self._spent(Spent())  # what was measured before is of other rounds
        self._tier.restore(snapshot)
        self._schedule = self._new_schedule()  # one of somebody's own may remember what is not so yet
        self._schedule.restore(snapshot.aloft, self._tier.remade)
        self._clients.restore(self._everyone, snapshot.clients)

    def give(self, states: Mapping[int, object]) -> None:
        """Give some clients private states, by client id; the others keep theirs."""
        self._clients.restore(list(states), states)

    @property
    def _everyone(self) -> range:
        return range(len(self._world.data.clients))


def _require_model(world: World, state: object) -> None:
    if world.personal.kind != "none" and world.algorithm.global_model(state) is None:
        raise ConfigError(
            f"evaluation.personal={world.personal.kind}: {type(world.algorithm).__name__} has no global model that "
            "clients could be served with. Expected none."
        )


def _require_teams(world: World, decided: Mapping[int, Assignment], round: int) -> None:
    method, named = world.algorithm, ", ".join(map(str, decided))
    if not (isinstance(method, TieredAlgorithm) and method.tells_teams):
        raise ActionError(
            f"round {round}: {type(method).__name__} takes no decisions for teams: expected none, got some for team "
            f"{named}. Leave Decisions.teams empty; a method whose to_team follows them says so by tells_teams."
        )
    if unknown := [team for team in decided if team not in world.data.teams]:
        known = ", ".join(map(str, world.data.teams))
        raise ActionError(
            f"round {round}: decisions for team {unknown[0]}, which does not exist: expected some of {known}, got "
            f"{named}."
        )


class PricedTeam(TeamServer):
    """A team server whose clients are priced: its state stays as it is."""

    def _step(self, state: object, ups: Sequence[Received[object]], context: Context) -> object:
        return state


class TeamPrices:
    """Replies of teams before their rounds are made, with the virtual seconds that these take at least.

    Where neither tier waits, they rest on the calls that are under way in a team. If the work of clients depends on
    what they have learnt, they are then an estimate: a team whose rounds take less is not seen before it was expected.
    """

    def __init__(self, world: World) -> None:
        """Count nothing before it is asked."""
        # What is priced holds nothing of which a mean could be formed.
        self._world = world if world.taking.is_plain else replace(world, taking=Taking())

    @cached_property
    def _costs(self) -> CallCosts:
        return CallCosts(self._world)

    def __call__(self, call: TeamCall, underway: Underway | None) -> TeamReply:
        """A team's rounds, made with clients that are only priced; ``underway``: what was, when its last ones ended."""
        world, costs = self._world, self._costs
        team = PricedTeam(world, call.team, PricedClients(world, costs), Prices(world, costs))
        team.restore(underway)
        return team.run(call)


def serve(world: World, clients: ClientPool, teams: TeamPool | None) -> GlobalServer:
    """The global server of a run, over its teams where there are any, and else over its clients.

    Raises:
        ConfigError: when changes of clients are to be counted, and uploads do not say what changed.
    """
    if world.clients_plan.mode == "async" and world.clients_plan.mixing.update == "change":
        CallCosts(world).require_changes()
    if teams is not None and world.teams_plan.mode == "async" and world.teams_plan.mixing.update == "change":
        CallCosts(world).require_team_changes()
    if teams is None:
        return GlobalServer(world, FlatTier(world, clients, Prices(world)), clients)
    return GlobalServer(world, TeamTier(world, teams, TeamPrices(world)), clients)
