"""A client's samples, in batches: which rows make up each step, and how they are fetched."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from cachetools import LRUCache
from torch import Tensor

from strata.engine.data.capacity import require_memory
from strata.engine.data.dataset import Dataset, IntArray
from strata.engine.data.mapped import Mapped, release
from strata.engine.method.length import Length
from strata.engine.method.requests import Recalibrate, Train
from strata.engine.seeding import generator, generators
from strata.engine.tree import only_read

GATHER_SAMPLES = 4096  # rows fetched at once: large enough to cost little per step, small enough to stay in cache

GRADIENT_ROWS = 256
"""Rows of which a gradient is taken at once; of more it is the mean of several. Settings do not change it, so results
do not depend on them."""

STEP_BYTES, ROW_BYTES = 120, 8
"""What the plan of a step takes: an array, and a number for each row of its batch."""

SEEN_ONCE = 1.5
"""How often rows are seen on average, at most, for each step to fetch its own; else all are fetched at once."""

GATHERED_BYTES = 40 * 2**20
"""Inputs of cohorts, as models take them, that are kept from one call to the next, at most."""

READY_BYTES = 256 * 2**20
"""Inputs of a data set, as models take them, and targets, up to which samples that come again are made ready once."""

UNKNOWN, MET = -1, -2
"""In the place of a sample that is not ready: nobody has asked for it, or somebody has, once."""

POWERS = frozenset(math.ldexp(1.0, exponent) for exponent in range(-16, 17))
"""Scales by which a division rounds nothing, whatever whole numbers a set's inputs are."""

ALIGNED = 64
"""The bytes of which torch begins a tensor at a multiple."""

Fetch = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Gives inputs and targets by numbers (n,)."""


@dataclass(frozen=True)
class Store:
    """Inputs ``x`` and targets ``y`` of samples, which it gives by their numbers."""

    x: Tensor
    y: Tensor

    def __call__(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and targets of the samples of some numbers (n,)."""
        return self.x.index_select(0, numbers), self.y.index_select(0, numbers)


class Ready:
    """Samples as models take them: each is made ready when its place is first asked for, and kept."""

    def __init__(self, n: int, make: Callable[[IntArray], tuple[Tensor, Tensor]]) -> None:
        """``n``: samples of the data set; ``make``: gives those of some rows."""
        self._n, self._make, self._held = n, make, 0
        self._places = np.zeros(0, np.int32)
        self._x, self._y = torch.empty(0), torch.empty(0)

    def met(self, rows: IntArray) -> bool:
        """Whether most of ``rows`` (n,) were asked for before; all of them are from now on."""
        new = rows[self._found(rows) == UNKNOWN]
        self._places[new] = MET
        return 2 * len(new) < len(rows)

    def _found(self, rows: IntArray) -> IntArray:
        if not len(self._places):  # many trainers need none
            self._places = np.full(self._n, UNKNOWN, np.int32)
        found: IntArray = self._places[rows].astype(np.int64)
        return found

    def places(self, rows: IntArray) -> IntArray:
        """Where the samples of ``rows`` (n,) lie."""
        found = self._found(rows)
        if (found < 0).any():
            new = rows[found < 0]
            # In the order in which they are asked for: those of a client lie together, and so in few pages of memory.
            self._add(new[np.sort(np.unique(new, return_index=True)[1])])
            found = self._found(rows)
        return found

    def _add(self, rows: IntArray) -> None:
        x, y = self._make(rows)
        if not self._held:  # the system gives memory where it is first written
            self._x, self._y = (one.new_empty((self._n, *one.shape[1:])) for one in (x, y))
        after = self._held + len(rows)
        self._x[self._held : after], self._y[self._held : after] = x, y
        self._places[rows] = np.arange(self._held, after)
        self._held = after

    @property
    def store(self) -> Store:
        """Gives the samples that lie at some places (n,)."""
        return Store(self._x, self._y)

    def lying(self, rows: IntArray) -> tuple[Tensor, Tensor]:
        """The samples of ``rows`` (n,), without a copy where they follow each other.

        Inputs begin where new memory would, or sums over them might rest on where they happen to lie.
        """
        places = self.places(rows)
        first, last = int(places[0]), int(places[-1]) + 1
        if last - first != len(rows) or not bool((np.diff(places) == 1).all()):
            return self.store(torch.from_numpy(places))
        x = self._x[first:last]
        return x if x.data_ptr() % ALIGNED == 0 else x.clone(), self._y[first:last]


class Rows:
    """All samples of a data set on the trainer's device, from which those of a step are fetched by row."""

    def __init__(self, dataset: Dataset, device: torch.device) -> None:
        """Share the data set's memory on the CPU; copy it once on another device."""
        self._x, self._y = only_read(dataset.x).to(device), only_read(dataset.y).to(device)
        self._mapped = [array for array in (dataset.x, dataset.y) if isinstance(array, Mapped)]
        self._range = dataset.value_range or ((0.0, 255.0) if dataset.x.dtype == np.uint8 else None)
        self._shift, self._scale, self._tokens = dataset.shift, dataset.scale, dataset.vocabulary > 0
        # Such a division is done with that by the range: every third pass over the inputs is saved.
        self._at_once = dataset.x.dtype.kind in "bui" and dataset.scale in POWERS
        self.device = device
        self._kept: LRUCache[bytes, Store] = LRUCache(GATHERED_BYTES, lambda kept: int(kept.x.nbytes))
        small = 4 * dataset.x.size + dataset.y.nbytes <= READY_BYTES
        readied = small and self._range is not None and not self._mapped and device.type == "cpu"
        self._ready = Ready(len(dataset.x), self.fetch) if readied else None

    def fetch(self, rows: IntArray | Tensor) -> tuple[Tensor, Tensor]:
        """The samples of ``rows`` (n,): inputs (n, ...) ready for a model, and targets (n, ...), on its device.

        Inputs become float32, shifted and scaled as the data set says; token ids are as they are there.
        """
        index = rows if isinstance(rows, Tensor) else torch.from_numpy(rows).to(self.device)
        x, y = self._x.index_select(0, index), self._y.index_select(0, index)
        release(*self._mapped)
        if self._tokens:
            return x, y
        x = x.to(torch.float32)
        if self._range is not None:
            low, high = self._range
            x = x.sub_(low) if low else x
            if self._at_once:
                x = x.div_((high - low) * self._scale).sub_(self._shift / self._scale)
            else:
                x = x.div_(high - low).sub_(self._shift).div_(self._scale)
        return x, y

    def lying(self, rows: IntArray) -> tuple[Tensor, Tensor]:
        """As :meth:`fetch`, of one row at least, but nobody may write to them: they may be those that are kept."""
        return self.fetch(rows) if self._ready is None else self._ready.lying(rows)

    def numbered(self, rows: IntArray, seen: int) -> tuple[IntArray, Fetch]:
        """A number (n,) for each of ``rows``, and what gives samples by these; the fastest way to see so many of them.

        All that is made ready for it is made now; what it gives can be asked by several threads.
        """
        once = seen <= SEEN_ONCE * len(rows)
        # What is seen once now, and once in a later round, is worth it when it comes again: most never do in a crowd.
        if self._ready is not None and (self._ready.met(rows) or not once):
            return self._ready.places(rows), self._ready.store
        return (rows, self.fetch) if once else (np.arange(len(rows)), self.gathered(rows))

    def gathered(self, rows: IntArray) -> Store:
        """A function like :meth:`fetch` by positions among ``rows`` (n,), all of which are fetched now.

        They are kept for the next time as long as there is room: a cohort is often the same again.
        """
        key = rows.tobytes()
        if key not in self._kept:
            x, y = self.fetch(rows)
            if x.nbytes > GATHERED_BYTES:
                return Store(x, y)
            self._kept[key] = Store(x, y)
        return self._kept[key]


AHEAD = "batches ahead"
"""What the first batches of steps that look ahead are drawn for; the plan of the second ones is that of plain steps."""


def plan_batches(n: int, request: Train, seed: int, purpose: str = "batches") -> list[IntArray]:
    """Positions 0..n-1 of each step's batch: shuffled passes over the data, the last batch of a pass may be smaller.

    Plans of one request have batches of equal sizes, whatever their ``purpose``.
    """
    return _planned(n, request, generator(seed, purpose))


def plan_all(asked: Sequence[tuple[int, Train, int]], purpose: str = "batches") -> list[list[IntArray]]:
    """The plans of several requests, of which each is what :func:`plan_batches` takes; they cost a third together."""
    rngs = generators([seed for *_, seed in asked], purpose)
    return [_planned(n, request, rng) for (n, request, _), rng in zip(asked, rngs, strict=True)]


def require_plan(n: int, batch_size: int, length: Length) -> int:
    """How many steps a client with ``n`` samples makes, once there is the memory to plan them all.

    Raises:
        ResourceError: where there is not.
    """
    steps = length.in_steps(-(-n // batch_size))
    require_memory(
        steps * (STEP_BYTES + ROW_BYTES * min(n, batch_size)),
        f"{steps:,} steps on {n} samples, planned at once",
        f"Lower the number of {length.unit}, {length.count:,}.",
    )
    return steps


def _planned(n: int, request: Train, rng: np.random.Generator) -> list[IntArray]:
    steps = require_plan(n, request.batch_size, request.length)
    if request.repeat_batch:
        return [rng.permutation(n)[: request.batch_size]] * steps
    batches: list[IntArray] = []
    while len(batches) < steps:
        order = rng.permutation(n)
        batches += [order[i : i + request.batch_size] for i in range(0, n, request.batch_size)]
    return batches[:steps]


def calibration_batches(n: int, request: Recalibrate, seed: int) -> list[IntArray]:
    """Positions 0..n-1 of each batch of a recalibration: none comes twice, and the last batch may be smaller."""
    order = generator(seed, "batches").permutation(n)[: request.batch_size * request.batches]
    return [order[i : i + request.batch_size] for i in range(0, len(order), request.batch_size)]


def batch_sizes(n: int, request: Train) -> dict[int, int]:
    """How many batches of which size a request's steps see, on a client with ``n`` samples: one a step, or two."""
    seen = 2 if request.look_ahead else 1
    return {size: seen * count for size, count in step_sizes(n, request).items()}


def step_sizes(n: int, request: Train) -> dict[int, int]:
    """How many steps of a request see batches of which size, on a client with ``n`` samples."""
    full, rest = divmod(n, request.batch_size)
    per_pass = full + bool(rest)
    steps = request.length.in_steps(per_pass)
    if request.repeat_batch:
        return {min(n, request.batch_size): steps}
    passes, over = divmod(steps, per_pass)
    # What is over is less than a pass, and the smaller batch comes at a pass's end: these are full ones.
    counts = {request.batch_size: passes * full + over, rest: passes}
    return {size: count for size, count in counts.items() if size and count}


def gradient_sizes(n: int) -> dict[int, int]:
    """In how many parts of which size a gradient over ``n`` samples is taken."""
    full, rest = divmod(n, GRADIENT_ROWS)
    return {size: count for size, count in {GRADIENT_ROWS: full, rest: 1}.items() if size and count}
