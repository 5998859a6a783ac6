"""The server tiers and the round logic, written once. Free of Ray: actors are shells around these classes.

A cohort is what a server invites in one go: a team's clients in a team round, or, in a flat method, the global server's
clients in a round; the global server's teams in a tiered one.

Whatever calls a method does so with one torch thread, so that its sums do not depend on the machine's cores.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from strata.engine.determinism import single_thread
from strata.engine.method.algorithm import FlatAlgorithm
from strata.engine.method.messages import Assignment, Received
from strata.engine.method.situation import Decisions
from strata.engine.rounds.cohort import (
    invite_clients,
    invite_teams,
    probe_calls,
    run_cohort,
)
from strata.engine.rounds.pools import ClientPool, EvaluationCall, Evaluations, Outcome, TeamCall, TeamPool
from strata.engine.rounds.records import CallRecord
from strata.engine.rounds.team import tiered
from strata.engine.rounds.world import World
from strata.engine.seeding import derive
from strata.engine.state.snapshot import Snapshot


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
        method = tiered(world)
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


def _flat(world: World) -> FlatAlgorithm[Any, Any, Any, Any]:
    assert isinstance(world.algorithm, FlatAlgorithm)
    return world.algorithm
