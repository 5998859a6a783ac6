"""From outcomes and evaluations to the record of a round."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain as joined
from statistics import fmean
from typing import Any

import numpy as np

from strata.engine.data.dataset import Task
from strata.engine.evaluation.config import MetricName
from strata.engine.evaluation.counts import macro_f1, matrix_of
from strata.engine.evaluation.measures import ACCURACY, Measure, headline_of, measured, pooled
from strata.engine.method.calls import LATE, LOST, OK, STALE
from strata.engine.method.requests import Evaluation, Pairs
from strata.engine.rounds.pools import Evaluations
from strata.engine.rounds.records import SERVER, Outcome, RoundRecord, Scores

PERSONAL, GLOBAL, UNSEEN, AT_SERVER = "PM", "GM", "unseen ", "server "


@dataclass(frozen=True)
class Scoring:
    """What is made of evaluations.

    Attributes:
        unseen: clients that never train, which are scored apart.
        metrics: beside accuracy and loss.
        classes: number of classes K.
        task: what is learnt.
        headline: name of the measure by which models are compared; empty: the task's first.
    """

    unseen: Collection[int] = ()
    metrics: Collection[MetricName] = ()
    classes: int = 0
    task: Task = "classification"
    headline: str = ""

    @property
    def measure(self) -> Measure:
        """The headline."""
        return headline_of(self.task, self.headline)

    def value(self, evaluations: Sequence[Evaluation]) -> float | None:
        """The headline of some evaluations with test rows together; None where it is not defined."""
        name = self.measure.name
        if name == ACCURACY:
            return sum(one.correct for one in evaluations) / sum(one.samples for one in evaluations)
        if name == "macro_f1" and self.task == "classification":
            return macro_f1(joined.from_iterable(one.pairs for one in evaluations))
        return (measured(self.task, evaluations) | pooled(evaluations)).get(name)


def score(evaluations: Mapping[int, Evaluation], scoring: Scoring = Scoring()) -> Scores:
    """Pool the evaluations of one kind of model (by client id) over the clients that have test rows, one at least.

    Clients for whose rows the headline is not defined, such as AUC where all are of one class, are left out of its mean
    and spread.
    """
    counted = {client: e for client, e in evaluations.items() if e.samples}
    values = {client: scoring.value([e]) for client, e in counted.items()}
    by_client = {client: value for client, value in values.items() if value is not None}
    headlines = np.array(list(by_client.values()) or [math.nan])
    samples = sum(e.samples for e in counted.values())
    ordered = np.sort(headlines)[::-1] if scoring.measure.falls else np.sort(headlines)
    worst = ordered[: max(1, len(ordered) // 10)]
    has_accuracy = scoring.task != "regression"
    return Scores(
        accuracy=sum(e.correct for e in counted.values()) / samples if has_accuracy else math.nan,
        loss=sum(e.loss_sum for e in counted.values()) / samples,
        mean=float(headlines.mean()),
        std=float(headlines.std()),
        worst_decile=float(worst.mean()),
        clients=by_client,
        **_further([e.pairs for e in counted.values()], scoring),
        **_measured(list(counted.values()), scoring),
    )


def _measured(evaluations: Sequence[Evaluation], scoring: Scoring) -> dict[str, Any]:
    """The measures of the task and those that were asked for; nothing of a classification without any."""
    found = measured(scoring.task, evaluations) | pooled(evaluations)
    headline = None if scoring.measure.name == ACCURACY else scoring.measure.name
    if headline is not None and headline not in found:
        value = scoring.value(evaluations)
        found[headline] = math.nan if value is None else value
    return {"headline": headline, "measures": found} if found else {}


def _further(pairs: Sequence[Pairs], scoring: Scoring) -> dict[str, Any]:
    """The metrics that were asked for, of the pairs of each client."""
    found: dict[str, Any] = {}
    if "macro_f1" in scoring.metrics:
        found = {"macro_f1": macro_f1(joined.from_iterable(pairs)), "macro_f1_mean": fmean(map(macro_f1, pairs))}
    if "confusion" in scoring.metrics:
        found["confusion"] = matrix_of(joined.from_iterable(pairs), scoring.classes).tolist()
    return found


def score_all(evaluations: Evaluations, scoring: Scoring = Scoring()) -> dict[str, Scores]:
    """One :class:`~strata.engine.rounds.records.Scores` per kind of model (PM, TM, GM), and per kind of the unseen."""
    by_kind: dict[str, dict[int, Evaluation]] = {}
    for client, kinds in evaluations.items():
        for kind, one in kinds.items():
            beside = AT_SERVER if client == SERVER else UNSEEN if client in scoring.unseen else ""
            by_kind.setdefault(f"{beside}{kind}", {})[client] = one
    scores = {kind: score(by_kind[kind], scoring) for kind in sorted(by_kind)}
    if (kind := f"{AT_SERVER}{GLOBAL}") in scores:
        scores[kind] = replace(scores[kind], clients={})  # the server is none
    return {kind: replace(one, hurt=_hurt(kind, one, scores)) for kind, one in scores.items()}


def _hurt(kind: str, own: Scores, scores: Mapping[str, Scores]) -> float | None:
    """The share of the clients that a kind of personal model serves worse than the global model does."""
    shared = scores.get(kind.replace(PERSONAL, GLOBAL))
    if PERSONAL not in kind or shared is None:
        return None
    pairs = [(shared.clients[client], value) for client, value in own.clients.items() if client in shared.clients]
    return fmean(own.measure.better(common, value) for common, value in pairs) if pairs else None


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
    return {**plain, "scores": {kind: _plain_scores(one) for kind, one in value.scores.items()}}


def _plain_scores(scores: Scores) -> dict[str, object]:
    """Scores as plain JSON, without what nobody asked for."""
    return {name: value for name, value in dataclasses.asdict(scores).items() if value is not None}


def chain(digest: str, value: RoundRecord) -> str:
    """SHA-256 in hexadecimal over a record and the digest of all records before it, which is empty for the first.

    The share of clients that are hurt is left out: it follows from their accuracies.
    """
    plain = to_plain(replace(value, scores={kind: replace(one, hurt=None) for kind, one in value.scores.items()}))
    made = hashlib.sha256((digest + json.dumps(plain, sort_keys=True)).encode())
    value.calls.digest(made.update)
    return made.hexdigest()
