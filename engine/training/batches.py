"""A client's samples, in batches: which rows make up each step, and how they are fetched."""

import warnings

import torch
from torch import Tensor

from strata.engine.data.dataset import Dataset, IntArray
from strata.engine.data.mapped import Mapped
from strata.engine.method.requests import Train
from strata.engine.seeding import generator

GATHER_SAMPLES = 4096  # rows fetched at once: large enough to cost little per step, small enough to stay in cache


class Rows:
    """All samples of a data set on the trainer's device, from which those of a step are fetched by row."""

    def __init__(self, dataset: Dataset, device: torch.device) -> None:
        """Share the data set's memory on the CPU; copy it once on another device."""
        with warnings.catch_warnings():
            # In an actor the arrays are read-only views of the object store. Nothing here ever writes to them.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable", category=UserWarning)
            self._x = torch.from_numpy(dataset.x).to(device)
            self._y = torch.from_numpy(dataset.y).to(device)
        self._mapped = [array for array in (dataset.x, dataset.y) if isinstance(array, Mapped)]
        self._shift, self._scale = dataset.shift, dataset.scale
        self.device = device

    def fetch(self, rows: IntArray) -> tuple[Tensor, Tensor]:
        """The samples of ``rows`` (n,): inputs (n, ...) ready for a model, and classes (n,), on the trainer's device.

        Inputs of uint8 become float32, shifted and scaled as the data set says; others are as they are there.
        """
        index = torch.from_numpy(rows).to(self.device)
        x, y = self._x.index_select(0, index), self._y.index_select(0, index)
        for array in self._mapped:
            array.release()  # of a large file much more comes with a row than the row
        if x.dtype == torch.uint8:
            x = x.to(torch.float32).div_(255.0).sub_(self._shift).div_(self._scale)
        return x, y


def plan_batches(n: int, request: Train, seed: int) -> list[IntArray]:
    """Positions 0..n-1 of each step's batch: shuffled passes over the data, the last batch of a pass may be smaller."""
    steps = request.length.in_steps(-(-n // request.batch_size))
    rng = generator(seed, "batches")
    if request.repeat_batch:
        return [rng.permutation(n)[: request.batch_size]] * steps
    batches: list[IntArray] = []
    while len(batches) < steps:
        order = rng.permutation(n)
        batches += [order[i : i + request.batch_size] for i in range(0, n, request.batch_size)]
    return batches[:steps]


def batch_sizes(n: int, request: Train) -> dict[int, int]:
    """How many steps of a request see a batch of which size, on a client with ``n`` samples."""
    full, rest = divmod(n, request.batch_size)
    per_pass = full + bool(rest)
    steps = request.length.in_steps(per_pass)
    if request.repeat_batch:
        return {min(n, request.batch_size): steps}
    passes, over = divmod(steps, per_pass)
    # What is over is less than a pass, and the smaller batch comes at a pass's end: these are full ones.
    counts = {request.batch_size: passes * full + over, rest: passes}
    return {size: count for size, count in counts.items() if size and count}
