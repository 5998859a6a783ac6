"""Private states of the clients of one process: the last used ones in memory, the others at rest on the disk.

What is at rest lies in a nameless file of the system's temporary folder, which is gone with the process however that
ends.
"""

import sqlite3
from collections import OrderedDict
from collections.abc import Collection, Container, Iterator, Sequence

from strata.engine.errors import StateError
from strata.engine.state.encoding import StateTypes, pack, unpack
from strata.engine.tree import count_bytes

LEFT = 0.9
"""When memory is full, so much of it stays in use: what goes to the disk goes there in larger parts."""


class StateCache:
    """States by client id. Whether one is in memory or at rest does not change it by a bit.

    Attributes:
        memory_bytes: of the states in memory.
    """

    def __init__(self, memory_bytes: float, types: StateTypes) -> None:
        """An empty store.

        Args:
            memory_bytes: states that are larger in all go to the disk, those that were not used for longest first.
            types: the dataclasses that may occur in states, by name.
        """
        self._limit, self._types = memory_bytes, types
        self._memory: OrderedDict[int, tuple[object, int]] = OrderedDict()  # with its size, last used last
        self.memory_bytes = 0
        self._changed: dict[int, int] = {}  # round of the last change, by client, in the order of these changes
        self._resting: set[int] = set()  # whose state on the disk is the present one
        self._disk: sqlite3.Connection | None = None

    def __contains__(self, client: int) -> bool:
        return client in self._changed

    def get(self, client: int) -> object:
        """The state of a client that has one.

        Raises:
            KeyError: for another client.
            StateError: when it cannot be kept in memory because others cannot be written to the disk.
        """
        if client in self._memory:
            self._memory.move_to_end(client)
            return self._memory[client][0]
        if client not in self._resting:
            raise KeyError(client)
        state = self._read(client)
        self._hold(client, state)
        return state

    def put(self, client: int, state: object, round: int) -> None:
        """Give a client a state, in a round, or 0 before the first.

        Raises:
            StateError: when states must go to the disk and one of them could not be restored from there as it is, or
                the disk is full.
        """
        self._resting.discard(client)
        self._changed.pop(client, None)
        self._changed[client] = round
        self._hold(client, state)

    def drop(self, clients: Collection[int]) -> None:
        """Leave some clients without a state."""
        named = clients if isinstance(clients, range) else set(clients)
        few, many = (named, self._changed) if len(named) < len(self._changed) else (self._changed, named)
        for client in [client for client in few if client in many]:
            del self._changed[client]
            self._resting.discard(client)
            self.memory_bytes -= self._memory.pop(client, (None, 0))[1]

    def changed(self, clients: Container[int], since: int) -> Iterator[tuple[int, object]]:
        """The states of those of some clients that were changed after a round, with the clients' ids."""
        found = []
        for client, round in reversed(self._changed.items()):
            if round <= since:
                break
            if client in clients:
                found.append(client)
        for client in reversed(found):
            yield client, self._memory[client][0] if client in self._memory else self._read(client)

    def _hold(self, client: int, state: object) -> None:
        self.memory_bytes -= self._memory.pop(client, (None, 0))[1]
        size = _size(state)
        self._memory[client] = state, size
        self.memory_bytes += size
        if self.memory_bytes > self._limit:
            self._rest()

    def _rest(self) -> None:
        """Send states to the disk until there is room again; the one that was used last stays."""
        leaving, leaving_bytes = [], 0
        for client in list(self._memory)[:-1]:
            if self.memory_bytes - leaving_bytes <= LEFT * self._limit:
                break
            leaving.append(client)
            leaving_bytes += self._memory[client][1]
        self._write([client for client in leaving if client not in self._resting])
        for client in leaving:
            del self._memory[client]
        self.memory_bytes -= leaving_bytes
        self._resting.update(leaving)

    def _write(self, clients: Sequence[int]) -> None:
        packed = ((c, pack(self._memory[c][0], self._types, f"the state of client {c}: ")) for c in clients)
        try:
            with self._connection() as disk:
                disk.executemany("INSERT OR REPLACE INTO states VALUES (?, ?)", packed)
        except sqlite3.Error as error:
            raise StateError(
                f"private states beyond state.cache_mib cannot be kept on the disk: {error}. Free the temporary "
                "folder, name another by TMPDIR, or raise state.cache_mib."
            ) from None

    def _connection(self) -> sqlite3.Connection:
        if self._disk is None:
            self._disk = sqlite3.connect("", check_same_thread=False)  # nameless: deleted by the system at the end
            self._disk.execute("PRAGMA journal_mode = MEMORY")
            self._disk.execute("CREATE TABLE states (client INTEGER PRIMARY KEY, state BLOB)")
        return self._disk

    def _read(self, client: int) -> object:
        (data,) = self._connection().execute("SELECT state FROM states WHERE client = ?", (client,)).fetchone()
        return unpack(data, self._types)


def _size(state: object) -> int:
    try:
        return count_bytes(state)
    except TypeError:  # of what cannot be kept on the disk either: whoever asks for that is told
        return 0
