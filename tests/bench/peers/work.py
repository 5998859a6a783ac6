"""What a peer trains: the model, rows and settings that the benchmark wrote down, and when it is to go on.

Run in the peer's environment, whose Python finds Strata's models on its path.
"""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from strata.engine.models.spec import ModelSpec


@dataclass(frozen=True)
class Work:
    """One setting: a model, each client's rows, and how they train."""

    model: nn.Module
    data: list[tuple[Tensor, Tensor]]
    cohort: int
    batch: int
    steps: int
    lr: float


def read(path: str) -> Work:
    """Read what :mod:`tests.bench.peers.driver` has written."""
    torch.set_num_threads(1)
    plain = json.loads(Path(path).read_text())
    name, shape, classes, settings = plain["model"]
    model = ModelSpec(name, tuple(shape), classes, tuple((key, _tuple(value)) for key, value in settings)).build()
    with np.load(plain["data"]) as arrays:
        x = torch.from_numpy(arrays["X"]).float().div(255).sub(0.5).div(0.5)
        y = torch.from_numpy(arrays["y"])
    rows = np.arange(plain["clients"] * plain["samples"]).reshape(plain["clients"], plain["samples"])
    data = [(x[own], y[own]) for own in torch.from_numpy(rows)]
    return Work(model, data, plain["cohort"], plain["batch"], plain["steps"], plain["lr"])


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


class Turns:
    """Called before each round: waits until the benchmark says how many rounds are next, and tells what they took."""

    def __init__(self, tells: bool) -> None:
        """``tells``: whether this is the process that reports; the others only keep step."""
        self._tells, self._left, self._rounds, self._began = tells, 0, 0, 0.0

    def __call__(self) -> None:
        """One more round is about to begin."""
        if self._left == 0:
            if self._tells:
                taken = (time.perf_counter() - self._began) / self._rounds if self._rounds else 0.0
                print(f"took {taken}", flush=True)
            line = sys.stdin.readline()
            if not line.strip():
                sys.stdout.flush()
                raise SystemExit
            self._left = self._rounds = int(line)
            self._began = time.perf_counter()
        self._left -= 1
