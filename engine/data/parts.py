"""Who holds which rows, in columns: a population of a million clients is two arrays, not a million objects.

# N samples, C clients, M rows that are dealt
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from strata.engine.data.dataset import ClientData, IntArray
from strata.engine.on_demand import OnDemand


class Parts(Sequence[IntArray]):
    """The rows of each client, below each other in one column, and where each client's begin.

    Attributes:
        rows: ``(M,)``; int32 where the data set allows, which halves the memory.
        starts: ``(C + 1,)`` int64: client c holds ``rows[starts[c]:starts[c + 1]]``.
    """

    def __init__(self, rows: NDArray[np.integer], counts: IntArray) -> None:
        """``rows`` ``(M,)`` in the order of clients, and how many each of them holds, ``counts`` ``(C,)``."""
        self.starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        held = rows[: self.starts[-1]]
        small = not len(held) or int(held.max()) < 2**31
        self.rows: NDArray[np.integer] = held.astype(np.int32 if small else np.int64)

    @classmethod
    def of(cls, parts: Sequence[NDArray[np.integer]]) -> "Parts":
        """Lay the rows of each client, ``(n,)`` each, below each other."""
        sizes = np.fromiter(map(len, parts), np.int64, len(parts))
        return cls(np.concatenate(parts) if len(parts) else np.zeros(0, np.int64), sizes)

    @classmethod
    def dealt(cls, piles: Iterable[tuple[IntArray, IntArray, IntArray]], clients: int) -> "Parts":
        """Give each client its share of several piles, in the order of the piles.

        Args:
            piles: of each pile the rows ``(n,)``, who gets of it (ids, ascending, ``(h,)``), and how many, ``(h,)``;
                what goes beyond their sum is nobody's.
            clients: number of clients C.
        """
        rows, owners = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for pile, holders, counts in piles:
            owners.append(np.repeat(holders, counts))
            rows.append(pile[: len(owners[-1])])
        owner = np.concatenate(owners)
        order = np.argsort(owner, kind="stable")
        return cls(np.concatenate(rows)[order], np.bincount(owner, minlength=clients))

    @property
    def sizes(self) -> IntArray:
        """How many rows each client holds, ``(C,)``."""
        return np.diff(self.starts)

    @property
    def owners(self) -> IntArray:
        """The client of each entry of ``rows``, ``(M,)``."""
        return np.repeat(np.arange(len(self)), self.sizes)

    def ascending(self) -> "Parts":
        """The same with each client's rows in ascending order."""
        return Parts(self.rows[np.lexsort((self.rows, self.owners))], self.sizes)

    def where(self, chosen: NDArray[np.bool_]) -> "Parts":
        """Only those entries of ``rows`` for which ``chosen`` ``(M,)`` is true."""
        return Parts(self.rows[chosen], np.bincount(self.owners[chosen], minlength=len(self)))

    def __len__(self) -> int:
        return len(self.starts) - 1

    @overload
    def __getitem__(self, client: int) -> IntArray: ...

    @overload
    def __getitem__(self, client: slice) -> list[IntArray]: ...

    def __getitem__(self, client: int | slice) -> IntArray | list[IntArray]:
        """The rows of a client, ``(n,)`` int64; or, of a slice, a list of these."""
        where = range(len(self))[client]
        if isinstance(where, range):
            return [self[one] for one in where]
        return self.rows[self.starts[where] : self.starts[where + 1]].astype(np.int64)

    def digest(self, update: Callable[[bytes], object]) -> None:
        """Tell a hash, by its ``update``, what is in the columns."""
        update(f"{len(self)} {len(self.rows)} {self.rows.dtype}".encode())
        update(self.starts.tobytes())
        update(self.rows.tobytes())


class ClientRows(OnDemand[ClientData]):
    """The rows of each client by client id, made from columns when they are asked for.

    Attributes:
        train_sizes, test_sizes: training and test rows of each client, ``(C,)`` each.
    """

    train_sizes: NDArray[np.integer]
    test_sizes: NDArray[np.integer]

    @abstractmethod
    def digest(self, update: Callable[[bytes], object]) -> None:
        """Tell a hash, by its ``update``, all that the rows follow from."""

    @property
    def held(self) -> Parts:
        """The training and test rows of each client together."""
        return Parts.of([np.concatenate([rows.train, rows.test]) for rows in self])


class Listed(ClientRows):
    """Rows that are known already, as columns."""

    def __init__(self, train: Parts, test: Parts, validation: Parts | None = None) -> None:
        """The training, test and validation rows of each client; nobody has validation rows where those are None."""
        super().__init__(len(train))
        self._parts = [train, test] if validation is None else [train, test, validation]
        self.train_sizes, self.test_sizes = train.sizes, test.sizes

    @classmethod
    def of(cls, clients: Sequence[ClientData]) -> ClientRows:
        """Rows that are objects, as columns; what is columns already stays as it is."""
        if isinstance(clients, ClientRows):
            return clients
        sides = ([r.train for r in clients], [r.test for r in clients], [r.validation for r in clients])
        return cls(*map(Parts.of, sides))

    def made(self, place: int) -> ClientData:
        """A client's rows."""
        return ClientData(*(part[place] for part in self._parts))

    def digest(self, update: Callable[[bytes], object]) -> None:
        """Tell a hash, by its ``update``, what is in the columns."""
        for part in self._parts:
            part.digest(update)
