"""A round as numbers by name, as trackers take them: ``accuracy/PM``, ``client/bytes_up``."""

import math
from collections.abc import Mapping

from strata.engine.method.control import AGENTS
from strata.engine.rounds.records import ASYNC, RoundRecord
from strata.engine.transport.privacy import PRIVACY

OWN_GROUPS = (AGENTS, ASYNC, PRIVACY, "server/")  # what a record tells of other things than the method


def metrics_of(record: RoundRecord) -> dict[str, float]:
    """Flatten a round to metrics, grouped by tier and by subject; what is not a finite number is left out."""
    metrics: dict[str, float | None] = {
        "round": record.round,
        "virtual_s": record.virtual_s,
        "time/round_s": record.round_s,
        "time/wall_s": record.wall_s,
        "client/invited": record.invited,
        "client/completed": record.completed,
        "client/late": record.late,
        "client/lost": record.lost,
        "client/bytes_down": record.bytes_client_down,
        "client/bytes_up": record.bytes_client_up,
        "client/flops": record.flops,
        "client/straggling_s": record.straggling_s,
        "team/bytes_down": record.bytes_team_down,
        "team/bytes_up": record.bytes_team_up,
        "global/train_loss": record.train_loss,
        **_score_metrics(record),
        **{name if name.startswith(OWN_GROUPS) else f"method/{name}": v for name, v in record.metrics.items()},
    }
    return {name: value for name, value in metrics.items() if value is not None and math.isfinite(value)}


def _score_metrics(record: RoundRecord) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for kind, scores in record.scores.items():
        metrics[f"accuracy/{kind}"] = scores.accuracy
        metrics[f"accuracy_by_time/{kind}"] = scores.accuracy
        metrics[f"loss/{kind}"] = scores.loss
        metrics[f"fairness/{kind}_mean"] = scores.mean
        metrics[f"fairness/{kind}_std"] = scores.std
        metrics[f"fairness/{kind}_worst_decile"] = scores.worst_decile
        further = {"fairness/{}_hurt": scores.hurt, "macro_f1/{}": scores.macro_f1}
        metrics |= {name.format(kind): value for name, value in further.items() if value is not None}
        metrics |= {f"measures/{kind}_{name}": value for name, value in (scores.measures or {}).items()}
        if scores.headline is not None:
            metrics[f"measures_by_time/{kind}_{scores.headline}"] = scores.value
    return metrics


def flatten(nested: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """``{"last": {"PM": 0.9}}`` → ``{"last/PM": 0.9}``."""
    flat: dict[str, object] = {}
    for key, value in nested.items():
        inner = flatten(value, f"{prefix}{key}/") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
        flat.update(inner)
    return flat
