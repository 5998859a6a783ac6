"""Runs of a few rounds in which half of the clients take part, to hold against numpy.

All of a client's rows are one batch, so that steps are of the whole gradient; clients are of unequal size.

# n samples of one client, d inputs
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strata.engine.federation import Federation
from strata.engine.params import Params
from tests.helpers.arithmetic.softmax import FULL_BATCH, gradient
from tests.helpers.small import small

LR, STEPS, ROUNDS = 0.1, 3, 5

Arrays = dict[str, NDArray[np.float64]]
Rows = tuple[NDArray[np.float64], NDArray[np.int64]]


@dataclass(frozen=True)
class Played:
    """A run from its beginning to its end.

    Attributes:
        start: the global model before the first round, in float64; ``end``: after the last.
        cohorts: ids of the clients of each round.
        rows: each client's training inputs (n, d) and classes (n,).
        tests: each client's test rows, likewise.
        server, clients: the global state at the end, and the private states by client.
        scores: the last evaluation.
    """

    start: Arrays
    end: Arrays
    cohorts: Sequence[Sequence[int]]
    rows: Sequence[Rows]
    tests: Sequence[Rows]
    server: Any
    clients: Mapping[int, Any]
    scores: Mapping[str, Any]

    def sizes(self, cohort: Sequence[int]) -> list[int]:
        """Training samples of the clients of a cohort."""
        return [len(self.rows[client][1]) for client in cohort]


def played(method: str, *words: str, rounds: int = ROUNDS) -> Played:
    """Six clients of whom three are invited to each round."""
    config = small(
        method,
        "data=synthetic",
        "data.limit=400",
        "partition=quantity",
        "partition.sizes=powerlaw",
        "clients.count=6",
        "clients.participation=0.5",
        "model=mclr",
        f"method.batch_size={FULL_BATCH}",
        f"method.steps={STEPS}",
        f"method.lr={LR}",
        f"rounds={rounds}",
        *words,
    )
    with Federation(config) as federation:
        data, model = federation.world.data, federation.world.algorithm.global_model
        start = arrays(model(federation.rounds.snapshot().server))
        cohorts = []
        for _ in range(rounds):
            cohorts.append(federation.rounds.invite())
            record = federation.run_round()
        found = federation.rounds.snapshot()
        assert len({tuple(cohort) for cohort in cohorts}) > 1
        rows, tests = (
            [_rows(data.dataset, getattr(one, split)) for one in data.clients] for split in ("train", "test")
        )
        return Played(
            start, arrays(model(found.server)), cohorts, rows, tests, found.server, found.clients, record.scores
        )


def _rows(dataset: Any, ids: NDArray[np.int64]) -> Rows:
    return dataset.x[ids].reshape(len(ids), -1).astype(np.float64), dataset.y[ids]


def arrays(params: Params) -> Arrays:
    """Parameters in float64."""
    return {name: value.double().numpy().copy() for name, value in params.items()}


def slope(w: Arrays, rows: Rows) -> Arrays:
    """The gradient of softmax regression's mean cross-entropy, by name."""
    weight, bias = gradient(w["head.weight"], w["head.bias"], *rows)
    return {"head.weight": weight, "head.bias": bias}


def plus(w: Arrays, by: Arrays, factor: float) -> Arrays:
    """w + factor · by; names missing in ``by`` stay."""
    return {name: value + factor * by[name] if name in by else value for name, value in w.items()}


def descended(w: Arrays, rows: Rows, steps: int = STEPS) -> Arrays:
    """w after plain steps of softmax regression."""
    for _ in range(steps):
        w = plus(w, slope(w, rows), -LR)
    return w


def mean(models: Sequence[Arrays], weights: Sequence[float] | None = None) -> Arrays:
    """The weighted, or else the uniform mean."""
    return {name: np.average([model[name] for model in models], axis=0, weights=weights) for name in models[0]}


def correct(w: Arrays, rows: Rows) -> int:
    """How many rows softmax regression classifies correctly."""
    return int(((rows[0] @ w["head.weight"].T + w["head.bias"]).argmax(1) == rows[1]).sum())


def assert_close(found: Params | Arrays, expected: Arrays, start: Arrays) -> None:
    """Equal by name up to float32, and not where they began."""
    for name, value in expected.items():
        np.testing.assert_allclose(np.asarray(found[name]), value, rtol=1e-4, atol=1e-5)
        assert np.abs(value - start[name]).max() > 1e-3, "the comparison would hold for a method that does nothing"
