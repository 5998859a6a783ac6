"""Which actor makes which client's call."""

import heapq
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class Dealer:
    """Deals calls to client actors, by number: to each client's own, or to the one that has least to do."""

    def __init__(
        self,
        actors: int,
        homes: Sequence[int] | NDArray[np.integer],
        work: Sequence[int] | NDArray[np.integer] | None = None,
    ) -> None:
        """Nobody has anything to do yet.

        Args:
            actors: how many there are.
            homes: in which of them each client lives, ``(N,)``.
            work: how much a call of each client is expected to take, by client id, in any unit, where any actor may
                make it; None: each client's own actor makes its calls.
        """
        self.homes = np.asarray(homes)
        self._work = None if work is None else np.asarray(work)
        self._loads = [0] * actors
        self._shares: dict[object, tuple[int, int]] = {}  # of the tasks not answered yet: whose, and how much of it

    @property
    def anywhere(self) -> bool:
        """Whether any actor may make any call, because clients keep nothing."""
        return self._work is not None

    def deal(self, clients: Sequence[int]) -> list[tuple[int, list[int]]]:
        """The number of each actor with the places, ascending, of the clients whose calls it is to make.

        Where any may make a call, the longest are dealt first, each to the actor that has least to do.
        """
        if self._work is None:
            return self.by_home(clients)
        work = self._work[list(clients)].tolist()
        loads = [(load, number) for number, load in enumerate(self._loads)]
        heapq.heapify(loads)
        places: list[list[int]] = [[] for _ in loads]
        for place in sorted(range(len(clients)), key=lambda place: (-work[place], place)):
            load, number = heapq.heappop(loads)
            places[number].append(place)
            heapq.heappush(loads, (load + work[place], number))
        return [(number, sorted(own)) for number, own in enumerate(places) if own]

    def by_home(self, clients: Sequence[int]) -> list[tuple[int, list[int]]]:
        """The number of each actor with the places, in the order given, of its clients."""
        groups: dict[int, list[int]] = {}
        for place, home in enumerate(self.homes[list(clients)].tolist()):
            groups.setdefault(home, []).append(place)
        return list(groups.items())

    def began(self, task: object, actor: int, clients: Sequence[int]) -> None:
        """An actor has been given some clients' calls to make, as one task."""
        if self._work is not None:
            work = int(self._work[list(clients)].sum())
            self._loads[actor] += work
            self._shares[task] = actor, work

    def ended(self, task: object) -> None:
        """A task was answered."""
        actor, work = self._shares.pop(task, (0, 0))
        if work:
            self._loads[actor] -= work

    @property
    def open(self) -> list[object]:
        """The tasks whose answers nobody has seen yet."""
        return list(self._shares)

    def forget(self) -> None:
        """Nobody will ask for the tasks that were not answered."""
        self._loads, self._shares = [0] * len(self._loads), {}
