"""Blocks of lanes: how many clients are computed at once, and on which threads of the process.

# N lanes
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from itertools import pairwise
from typing import TypeVar

import torch

from strata.engine.determinism import single_thread
from strata.engine.training.lanes import LEAST

R = TypeVar("R")

CACHE_BYTES = 3 * 2**20
"""Inputs of a step that stay near a core of today's processors until the step has used them."""

WORTH = 8
"""Lanes for which the Python of a step is worth it; so many are a block, however large their inputs."""

WORTH_FLOPS = 10_000_000
"""Of a step of a block, half a millisecond of a core or more; of less, threads wait more than they gain."""


class Threads:
    """The threads of a process, each of which computes a block of lanes at a time.

    No bit rests on how lanes are cut into blocks, nor on who computes which: a lane is the same beside any other.
    """

    def __init__(self, count: int) -> None:
        """``count`` of them, the asking one among them; they are started when there is something for more than one."""
        self._count = count
        self._others = ThreadPoolExecutor(count - 1, "lanes", _alone) if count > 1 else None

    def blocks(self, lanes: int, input_bytes: int, flops: Callable[[], int]) -> list[slice]:
        """Cut lanes, :data:`~.lanes.LEAST` at least, into as many blocks as all threads take equally often.

        ``input_bytes`` and ``flops``: of a lane's step, the latter counted where it matters. A block holds as many
        lanes as :data:`CACHE_BYTES` hold, and there are no more threads at work than have :data:`WORTH_FLOPS` each.
        """
        several = self._count > 1 and lanes >= 2 * LEAST
        threads = max(1, min(self._count, lanes * flops() // WORTH_FLOPS)) if several else 1
        most = max(WORTH, CACHE_BYTES // max(1, input_bytes))
        turns = -(-lanes // (most * threads))
        count = min(turns * threads, lanes // LEAST)
        ends = [lanes * number // count for number in range(count + 1)]
        return [slice(first, last) for first, last in pairwise(ends)]

    def map(self, compute: Callable[[slice], R], blocks: list[slice]) -> list[R]:
        """What is computed for each block, in their order; the error of the first of them that breaks is raised.

        Whatever comes of it, nothing is computed any more then.
        """
        if self._others is None or len(blocks) == 1:
            return [compute(block) for block in blocks]
        left, made = deque(enumerate(blocks)), [Future[R]() for _ in blocks]

        def work() -> None:
            with suppress(IndexError):  # there is none left
                while True:
                    number, block = left.popleft()
                    try:
                        made[number].set_result(compute(block))
                    except BaseException as error:
                        made[number].set_exception(error)

        for _ in range(min(self._count, len(blocks)) - 1):
            self._others.submit(work)
        with single_thread():
            work()  # to wake one more, and to be woken by it, would take a millisecond
        wait(made)
        return [future.result() for future in made]


def _alone() -> None:
    """A thread of these computes by itself: torch's own threads would wait for each other, and change bits."""
    torch.get_num_threads()  # before which torch forgets what a thread is told
    torch.set_num_threads(1)
