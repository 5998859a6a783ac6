"""Sequences whose entries are made when they are asked for: what is known of a client, where there are a million."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar, overload

E = TypeVar("E")

KEPT = 2**14
"""How many entries of a :class:`OnDemand` sequence are kept, those that were made last."""


class OnDemand(Sequence[E], Generic[E]):
    """A sequence whose entries are made when they are asked for, and kept as long as there is room.

    What an entry is depends on its place alone, so it does not matter whether it is made again.
    """

    def __init__(self, length: int) -> None:
        """``length``: number of entries."""
        self._length = length
        self._kept: dict[int, E] = {}

    @abstractmethod
    def made(self, place: int) -> E:
        """The entry at ``place``, 0 to the length less one."""

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, place: int) -> E: ...

    @overload
    def __getitem__(self, place: slice) -> list[E]: ...

    def __getitem__(self, place: int | slice) -> E | list[E]:
        """An entry; or, of a slice, a list of them."""
        found = self._kept.get(place) if isinstance(place, int) else None
        if found is not None:  # a round asks for thousands
            return found
        where = range(self._length)[place]
        return [self._one(one) for one in where] if isinstance(where, range) else self._one(where)

    def _one(self, place: int) -> E:
        if place not in self._kept:
            if len(self._kept) >= KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[place] = self.made(place)
        return self._kept[place]

    def __iter__(self) -> Iterator[E]:
        """All entries; none is kept, so that going over a large sequence does not fill the memory."""
        return map(self.made, range(self._length))

    def __getstate__(self) -> dict[str, Any]:
        """What pickle keeps: all but the entries."""
        return {**vars(self), "_kept": {}}
