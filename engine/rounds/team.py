"""Team servers: their rounds with their clients, as one pool that the global server reaches."""

from collections.abc import Mapping, Sequence
from typing import Any

from strata.engine.clock.delays import transfer_s
from strata.engine.determinism import single_thread
from strata.engine.method.algorithm import TieredAlgorithm
from strata.engine.params import Params
from strata.engine.rounds.cohort import run_cohort
from strata.engine.rounds.pools import ClientPool, EvaluationCall, Evaluations, TeamCall, TeamReply, merge
from strata.engine.rounds.records import CallRecord
from strata.engine.rounds.world import World
from strata.engine.tree import count_bytes


class TeamServer:
    """One team's server: K rounds with its clients per global round."""

    def __init__(self, world: World, team: int, clients: ClientPool) -> None:
        """``clients`` reaches (at least) this team's members."""
        self._world, self.team, self._clients = world, team, clients
        self._members = list(world.data.teams[team])
        self._method: TieredAlgorithm[Any, Any, Any, Any, Any, Any, Any] = tiered(world)
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


def tiered(world: World) -> TieredAlgorithm[Any, Any, Any, Any, Any, Any, Any]:
    """The run's method, which has teams."""
    assert isinstance(world.algorithm, TieredAlgorithm)
    return world.algorithm
