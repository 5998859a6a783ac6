"""From outcomes and evaluations to the record of a round."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping

import numpy as np

from strata.engine.method.calls import LATE, LOST, OK, STALE
from strata.engine.method.requests import Evaluation
from strata.engine.rounds.pools import Evaluations
from strata.engine.rounds.records import Outcome, RoundRecord, Scores


def score(evaluations: Mapping[int, Evaluation]) -> Scores:
    """Pool the evaluations of one kind of model (by client id) over the clients that have test rows, one at least."""
    counted = {client: e for client, e in evaluations.items() if e.samples}
    accuracies = np.array([e.accuracy for e in counted.values()])
    samples = sum(e.samples for e in counted.values())
    worst = np.sort(accuracies)[: max(1, len(accuracies) // 10)]
    return Scores(
        accuracy=sum(e.correct for e in counted.values()) / samples,
        loss=sum(e.loss_sum for e in counted.values()) / samples,
        mean=float(accuracies.mean()),
        std=float(accuracies.std()),
        worst_decile=float(worst.mean()),
        clients={client: e.accuracy for client, e in counted.items()},
    )


def score_all(evaluations: Evaluations) -> dict[str, Scores]:
    """One :class:`~strata.engine.rounds.records.Scores` per kind of model (PM, TM, GM)."""
    kinds = sorted({kind for by_kind in evaluations.values() for kind in by_kind})
    return {
        kind: score({client: by_kind[kind] for client, by_kind in evaluations.items() if kind in by_kind})
        for kind in kinds
    }


def record(round: int, virtual_s: float, outcome: Outcome, scores: Mapping[str, Scores], wall_s: float) -> RoundRecord:
    """The record of one global round.

    Args:
        round: its number, 1 for the first.
        virtual_s: the virtual clock after it.
        outcome: what it came to.
        scores: by kind of model; empty where it was not evaluated.
        wall_s: seconds that the simulation itself took.
    """
    calls = outcome.calls
    count = {status: int((calls.status == status).sum()) for status in (OK, LATE, LOST, STALE)}
    teams = {"teams": outcome.teams, "late_teams": outcome.late_teams} if outcome.teams else {}
    losses = calls.loss[(calls.status == OK) & ~np.isnan(calls.loss)]
    return RoundRecord(
        round=round,
        virtual_s=virtual_s,
        round_s=outcome.seconds,
        straggling_s=float(np.mean(outcome.straggling)) if outcome.straggling else 0.0,
        invited=sum(count.values()),
        completed=count[OK],
        late=count[LATE],
        lost=count[LOST],
        bytes_client_down=int(calls.bytes_down.sum()),
        bytes_client_up=int(calls.bytes_up.sum()),
        bytes_team_down=outcome.bytes_team_down,
        bytes_team_up=outcome.bytes_team_up,
        flops=int(calls.flops.sum()),
        train_loss=float(losses.mean()) if len(losses) else None,
        scores=scores,
        calls=calls,
        metrics={**teams, **outcome.metrics},
        wall_s=wall_s,
    )


def to_plain(value: RoundRecord) -> dict[str, object]:
    """A record as plain JSON, without its calls, and without what differs between equal runs (wall-clock seconds)."""
    plain = {entry.name: getattr(value, entry.name) for entry in dataclasses.fields(value)}
    del plain["calls"], plain["wall_s"], plain["agents_wall_s"], plain["seconds"]
    return {**plain, "scores": {kind: dataclasses.asdict(one) for kind, one in value.scores.items()}}


def chain(digest: str, value: RoundRecord) -> str:
    """SHA-256 in hexadecimal over a record and the digest of all records before it, which is empty for the first."""
    made = hashlib.sha256((digest + json.dumps(to_plain(value), sort_keys=True)).encode())
    value.calls.digest(made.update)
    return made.hexdigest()
