"""The work that benchmarks measure: models, clients, cohorts, and the pictures they train on."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np

from strata.engine.federation import Federation

CORES = 2
BATCH = 10


@dataclass(frozen=True)
class Setting:
    """One line of the table: a model, and how its clients train."""

    name: str
    model: tuple[str, ...]
    clients: int
    cohort: int
    samples: int
    steps: int
    rounds: int  # per measurement, one after the other as in a run


CNN_215K = ("model=cnn_permfl_fmnist",)
CNN_29K = ("model=cnn", "model.width=0.5", "model.depth=2")
SETTINGS = (
    Setting("CNN of 215 k parameters, 10 of 100 clients, one epoch of 50", CNN_215K, 100, 10, 50, 5, 3),
    Setting("MCLR, 100 of 1,000 clients, 5 steps", ("model=mclr",), 1000, 100, 50, 5, 15),
    Setting("MLP 784-64-10, 100 of 1,000 clients, 5 steps", ("model=mlp", "model.hidden=[64]"), 1000, 100, 50, 5, 5),
    Setting("CNN of 21 k parameters, 100 of 1,000 clients, 5 steps", CNN_29K, 1000, 100, 50, 5, 2),
)


def written(folder: str, setting: Setting) -> str:
    """A set of pictures, ``samples`` of them to train on for each client, as a file."""
    rng = np.random.default_rng(0)
    rows = setting.clients * (setting.samples + 2)
    path = Path(folder) / f"{setting.clients}.npz"
    if not path.exists():
        np.savez(path, X=rng.integers(0, 256, (rows, 1, 28, 28), np.uint8), y=rng.integers(0, 10, rows))
    return str(path)


def words(setting: Setting, data: str) -> list[str]:
    """What all of Strata's arms have in common."""
    return [
        f"data={data}",
        f"data.test_fraction={2 / (setting.samples + 2)}",
        "partition=iid",
        f"clients.count={setting.clients}",
        f"clients.participation={setting.cohort / setting.clients}",
        f"method.steps={setting.steps}",
        f"method.batch_size={BATCH}",
        "evaluation.every=1000000",
        "rounds=1000000",
        f"clients_per_actor={setting.clients // CORES}",
        "tracking.wandb=disabled",
        *setting.model,
    ]


def strata(federation: Federation, rounds: int) -> Callable[[], float]:
    """Seconds of a round of a federation, of which so many follow each other before something else has its turn."""
    follows = cycle([True] * (rounds - 1) + [False])

    def seconds() -> float:
        began = time.perf_counter()
        federation.run_round(ahead=next(follows))
        return time.perf_counter() - began

    return seconds
