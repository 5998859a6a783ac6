"""What a run reports: plain records, and what rewards rest on. Sinks sit at the edge, in the driver."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from strata.engine.clock.delays import straggling_s
from strata.engine.evaluation.measures import ACCURACY, Measure, measure_of
from strata.engine.method.calls import PROBE, CallTable
from strata.engine.method.situation import Report
from strata.engine.stopwatch import Seconds, Spent

N = TypeVar("N", int, float)

ASYNC = "async/"
"""Begins the names of what is told of servers that do not wait for all: of uploads that counted how many were how stale
(``async/staleness/3``), how many were dropped (``async/stale``), the seconds for which clients had no work
(``async/idle_s``), and how many calls were in flight when the round ended (``async/in_flight``)."""

TEAMS = "teams/"
"""Follows :data:`ASYNC` in what is told of teams where neither tier waits; names without it are of clients there."""

IN_FLIGHT = "in_flight"

SERVER = -1
"""Stands for the global server among the ids of clients, where its model is evaluated on its own test rows."""


@dataclass(frozen=True)
class Outcome:
    """What a global round amounts to, before it is scored.

    Attributes:
        seconds: virtual length of the round.
        round, virtual_s: its number, and the virtual clock after it, which the global server keeps.
        straggling: max − min seconds of each cohort of clients.
        calls: every client call: probes, then in order of team, team round and client.
        counted: uploads that entered the global step: clients', or, in a tiered method, teams'. 0: it was not made.
        bytes_team_down, bytes_team_up: between the global server and its teams; 0 in a flat method.
        teams, late_teams: that were invited, and of those, dropped by the team tier's deadline.
        metrics: other numbers by name, :data:`ASYNC` ones among them where servers do not wait for all.
        singly: requests of clients that were answered one by one though several at once were asked for, by the reason.
        spent: wall seconds of all tiers, those of the probes before the round included.
    """

    seconds: float
    straggling: Sequence[float]
    calls: CallTable
    counted: int = 0
    bytes_team_down: int = 0
    bytes_team_up: int = 0
    late_teams: int = 0
    teams: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    round: int = 0
    virtual_s: float = 0.0
    singly: Mapping[str, int] = field(default_factory=dict)
    spent: Spent = field(default=Spent(), compare=False)


@dataclass(frozen=True)
class Scores:
    """What one kind of model does on the clients' test data; None stands for what nobody asked for.

    The *headline* is the measure by which models of a task are compared: accuracy, unless ``headline`` names another.

    Attributes:
        accuracy: Σ correct / Σ samples over all clients (pooled), 0..1; of several labels, all are correct in a sample
            that counts; NaN of a regression.
        loss: pooled mean of the task's loss.
        mean: mean of the clients' headlines.
        std: population standard deviation of the clients' headlines.
        worst_decile: mean headline of the worst tenth of the clients (at least one).
        clients: headline by client id.
        hurt: of personal models, the share of the clients whose headline is worse than that of the global model on the
            same rows, 0..1; None where there is no global model.
        macro_f1: mean F1 of the classes, of all clients' rows together, 0..1; ``macro_f1_mean``: the mean of the
            clients' own.
        confusion: how many samples of which class (rows) were taken for which (columns), K × K, of all clients.
        headline: name of the headline among ``measures``; None: accuracy.
        measures: further measures by name (:mod:`strata.engine.evaluation.measures`), of all clients' rows together;
            AUC and metrics of one's own are means over clients, weighted by samples.
    """

    accuracy: float
    loss: float
    mean: float
    std: float
    worst_decile: float
    clients: Mapping[int, float]
    hurt: float | None = None
    macro_f1: float | None = None
    macro_f1_mean: float | None = None
    confusion: Sequence[Sequence[int]] | None = None
    headline: str | None = None
    measures: Mapping[str, float] | None = None

    @property
    def measure(self) -> Measure:
        """What the headline is."""
        return measure_of(self.headline or ACCURACY)

    @property
    def value(self) -> float:
        """The headline, of all clients' rows together."""
        return self.accuracy if self.headline is None else (self.measures or {})[self.headline]


@dataclass(frozen=True)
class RoundRecord:
    """What is reported of one global round.

    Attributes:
        round: 1 for the first.
        virtual_s: virtual clock after the round; ``round_s``: length of this round.
        straggling_s: max − min of the participants' seconds, the mean over the round's cohorts.
        invited, completed, late, lost: client calls by what became of them; probes are not among them.
        bytes_*: client tier (client ↔ its server) and team tier (team ↔ global), both directions.
        flops: of all client calls, probes included.
        train_loss: mean training loss over the completed calls that trained, None when there are none.
        scores: ``PM`` personal, ``TM`` team, ``GM`` global model; empty in rounds without evaluation. Of clients that
            never train ``unseen PM`` and so on, which are in none of the others.
        calls: the client calls one by one, probes included.
        metrics: other numbers by name: of a tiered method the teams invited and late; what agents decided and earned.
        wall_s: seconds the simulation itself took; agents_wall_s: those spent in the agents, which come on top.
        seconds: wall seconds by part (:data:`strata.engine.stopwatch.PARTS`) of the round, its probes included, until
            the record was made. Nothing that is measured enters a result.
    """

    round: int
    virtual_s: float
    round_s: float
    straggling_s: float
    invited: int
    completed: int
    late: int
    lost: int
    bytes_client_down: int
    bytes_client_up: int
    bytes_team_down: int
    bytes_team_up: int
    flops: int
    train_loss: float | None
    scores: Mapping[str, Scores]
    calls: CallTable
    metrics: Mapping[str, float] = field(default_factory=dict)
    wall_s: float = 0.0
    agents_wall_s: float = 0.0
    seconds: Seconds = field(default_factory=dict)


def report_of_round(calls: CallTable, round_s: float, straggling_s: float, accuracy: float | None) -> Report:
    """The report of a round, without its probes, which were reported before it began.

    Args:
        calls: all client calls of the round.
        round_s: virtual seconds that it took.
        straggling_s: max − min seconds of its participants.
        accuracy: of its evaluation, 0..1; None without.
    """
    return Report(calls.where(calls.status != PROBE), round_s, straggling_s, accuracy)


def report_of_probes(calls: CallTable) -> Report:
    """The report of probes that clients make side by side: together they take as long as the slowest, without any 0."""
    seconds = calls.total_s.tolist()
    return Report(calls, max(seconds, default=0.0), straggling_s(seconds))


def added(parts: Iterable[Mapping[str, N]]) -> dict[str, N]:
    """Numbers of the same things, added up."""
    total: dict[str, N] = {}
    for part in parts:
        for name, number in part.items():
            total[name] = total[name] + number if name in total else number
    return total
