"""What a run reports: plain records. Sinks (JSONL, W&B, the terminal) sit at the edge, in the driver."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from strata.engine.method.calls import CallTable
from strata.engine.stopwatch import Seconds

ASYNC = "async/"
"""Begins the names of what is told of servers that do not wait for all: of uploads that counted how many were how stale
(``async/staleness/3``), how many were dropped (``async/stale``), the seconds for which clients had no work
(``async/idle_s``), and how many calls were in flight when the round ended (``async/in_flight``)."""


IN_FLIGHT = f"{ASYNC}in_flight"


@dataclass(frozen=True)
class Scores:
    """Accuracy and loss of one kind of model over the clients' test data.

    Attributes:
        accuracy: Σ correct / Σ samples over all clients (pooled), 0..1.
        loss: pooled mean cross-entropy.
        mean: mean of the clients' accuracies.
        std: population standard deviation of the clients' accuracies.
        worst_decile: mean accuracy of the worst tenth of the clients (at least one).
        clients: accuracy by client id.
    """

    accuracy: float
    loss: float
    mean: float
    std: float
    worst_decile: float
    clients: Mapping[int, float]


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
        scores: ``PM`` personal, ``TM`` team, ``GM`` global model; empty in rounds without evaluation.
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
