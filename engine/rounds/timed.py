"""Rounds of the timing model alone: the same clock as a federation's, without training. Thousands per second.

Agents whose rewards are latencies are pre-trained on it. For equal decisions, rounds have the seconds and bytes of the
real ones, to the bit (a test asserts it).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from strata.engine.clock.delays import Timing, call_timing, drops_out, straggling_s
from strata.engine.errors import ConfigError
from strata.engine.method.algorithm import TieredAlgorithm
from strata.engine.method.messages import Assignment
from strata.engine.method.situation import Cost, Decisions, Report
from strata.engine.rounds.cohort import invite_clients
from strata.engine.rounds.costs import CallCosts
from strata.engine.rounds.world import World

OK, LATE, LOST = 0, 1, 2


class TimingRounds:
    """The rounds of one world, timed only; see :class:`strata.engine.method.situation.Rounds`. For flat methods."""

    def __init__(self, world: World, costs: CallCosts | None = None) -> None:
        """``costs`` may be shared between worlds of the same data.

        Raises:
            ConfigError: for a tiered method.
        """
        if isinstance(world.algorithm, TieredAlgorithm):
            raise ConfigError(
                f"{type(world.algorithm).__name__} has teams: the timing fidelity is for flat methods. Use "
                "fidelity=full."
            )
        self.world, self.costs = world, costs or CallCosts(world)
        self.round = 0
        self._members = range(len(world.data.clients))
        self._invited: tuple[int, list[int]] = (-1, [])
        self._probe_s = 0.0

    def invite(self) -> list[int]:
        """Who is invited to the next round."""
        if self._invited[0] != self.round:
            self._invited = self.round, invite_clients(self.world, self._members, self.round + 1, 1, -1)
        return self._invited[1]

    def probe(self, clients: Sequence[int]) -> Report:
        """Time the probes of clients; they make the next round longer."""
        costs = [self.costs.probe(client) for client in clients]
        timings = [self._time(client, cost, 0) for client, cost in zip(clients, costs, strict=True)]
        self._probe_s = max(timing.total_s for timing in timings)
        return _report(clients, costs, timings, [OK] * len(costs), self._probe_s)

    def play(self, decisions: Decisions | None) -> Report:
        """Time the next round."""
        cohort = self.invite()
        told: Mapping[int, Assignment] = {client: {} for client in cohort} if decisions is None else decisions.clients
        cohort = [client for client in cohort if client in told]
        costs, timings, states, waited = [], [], [], 0.0
        plan = self.world.clients_plan
        limit = plan.deadline_s if plan.mode == "deadline" else float("inf")
        for client in cohort:
            cost = self.costs.call(client, told[client])
            timing, state = self._time(client, cost, 1), OK
            lost_after = drops_out(self.world.profiles[client], self.world.seed, (self.round + 1, 1, client))
            if lost_after is not None:
                timing, state = timing.cut(lost_after * timing.total_s), LOST
                cost = replace(cost, bytes_up=0)
            elif timing.total_s > limit:
                state = LATE
            waited = max(waited, min(timing.total_s, limit))
            costs.append(cost)
            timings.append(timing)
            states.append(state)
        seconds = waited + self.world.server_profile.latency_s + self._probe_s
        self.round, self._probe_s = self.round + 1, 0.0
        return _report(cohort, costs, timings, states, seconds)

    def _time(self, client: int, cost: Cost, team_round: int) -> Timing:
        return call_timing(
            self.world.profiles[client],
            self.world.parent(client),
            bytes_down=cost.bytes_down,
            bytes_up=cost.bytes_up,
            flops=cost.flops,
            seed=self.world.seed,
            key=(self.round + 1, team_round, client),
        )


def _report(
    clients: Sequence[int], costs: Sequence[Cost], timings: Sequence[Timing], states: Sequence[int], seconds: float
) -> Report:
    became = np.array(states)
    seconds_n4 = np.array([(t.latency_s, t.download_s, t.compute_s, t.upload_s) for t in timings]).reshape(-1, 4)
    costs_n3 = np.array([(c.bytes_down, c.bytes_up, c.flops) for c in costs], np.float64).reshape(-1, 3)
    on_time = [timing.total_s for timing, state in zip(timings, states, strict=True) if state == OK]
    return Report(
        clients=np.array(clients, np.int64),
        completed=became == OK,
        lost=became == LOST,
        latency_s=seconds_n4[:, 0],
        download_s=seconds_n4[:, 1],
        compute_s=seconds_n4[:, 2],
        upload_s=seconds_n4[:, 3],
        bytes_down=costs_n3[:, 0],
        bytes_up=costs_n3[:, 1],
        flops=costs_n3[:, 2],
        round_s=seconds,
        straggling_s=straggling_s(on_time),
    )
