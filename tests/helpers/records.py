"""A run and its rounds, made by hand, for the tests of sinks and displays."""

import dataclasses
from pathlib import Path
from typing import Any

from strata.cluster.sinks.sink import RunInfo
from strata.engine.method.calls import LATE, OK, Call, CallTable
from strata.engine.rounds.records import RoundRecord, Scores

CONFIG: dict[str, Any] = {
    "algorithm": "permfl",
    "rounds": 12,
    "runtime": "ray",
    "clients_per_actor": "auto",
    "data": {"name": "fashion_mnist_12k"},
    "partition": {"name": "labels"},
    "model": {"name": "mclr"},
    "clients": {"count": 3},
    "teams": {"count": 2},
    "delays": {"name": "classes", "classes": {"laptop": 1.0, "phone_mid": 3.0}},
    "method": {"eta": 0.03},
}
SUMMARY: dict[str, object] = {
    "last": {"PM": 0.8125, "GM": 0.5},
    "best": {"PM": 0.9, "GM": 0.625},
    "worst_decile": {"PM": 0.25, "GM": 0.125},
    "rounds": 12,
    "virtual_s": 11_520.0,
    "straggling_s": 12.25,
    "bytes": 1_234_000,
    "flops": 5_600_000_000,
}


def run_info(run_dir: Path, **changes: Any) -> RunInfo:
    base = RunInfo(run_dir, "permfl", CONFIG, 7, {"python": "3.11.0", "torch": "2.6.0"}, 12, 0)
    return dataclasses.replace(base, **changes)


def call(client: int, **changes: Any) -> Call:
    base = Call(client, client % 2, 1, "laptop", OK, 100, 50, 1000, 20, 5, 0.0, 0.5, 1.0, 0.25, 0.75, {})
    return base._replace(**changes)


def scores(accuracy: float) -> Scores:
    return Scores(accuracy, 1 - accuracy, accuracy, 0.125, accuracy / 2, {0: accuracy, 10: accuracy / 2})


def record(round: int, evaluated: bool = True, **changes: Any) -> RoundRecord:
    base = RoundRecord(
        round=round,
        virtual_s=960.0 * round,
        round_s=960.0,
        straggling_s=12.5,
        invited=3,
        completed=2,
        late=1,
        lost=0,
        bytes_client_down=300,
        bytes_client_up=1_500_000,
        bytes_team_down=20,
        bytes_team_up=500_000,
        flops=3000,
        train_loss=1 / round,
        scores={"PM": scores(1 - 1 / (round + 1)), "GM": scores(0.5)} if evaluated else {},
        calls=CallTable.of([call(0), call(1, status=LATE, loss=float("nan"))]),
        metrics={"teams": 2},
        wall_s=0.1 * round,
    )
    return dataclasses.replace(base, **changes)
