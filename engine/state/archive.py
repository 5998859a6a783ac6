"""Private states of clients beside their checkpoints, in a SQLite file: each checkpoint adds those that have changed.

A row is the state that a client has from a round on. A checkpoint of round r stands for the latest row up to r of each
client, and notes how many these are and the sum of their SHA-256, which needs no other rows than the changed ones.
"""

import hashlib
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from strata.engine.errors import CheckpointError
from strata.engine.state.encoding import StateTypes, pack, unpack

SCHEMA = """
CREATE TABLE IF NOT EXISTS states (client INTEGER, round INTEGER, sha BLOB, state BLOB, PRIMARY KEY (client, round));
CREATE INDEX IF NOT EXISTS by_round ON states (round);
CREATE TABLE IF NOT EXISTS notes (round INTEGER PRIMARY KEY, count INTEGER, digest TEXT);
"""
LATEST = "SELECT client, MAX(round), sha FROM states WHERE round <= ? GROUP BY client"
PRESENT = "SELECT sha FROM states WHERE client = ? ORDER BY round DESC LIMIT 1"
ROW = "SELECT sha, state FROM states WHERE client = ? AND round = ?"
MODULUS = 2**256


@dataclass(frozen=True)
class Archived:
    """The private states of a checkpoint, which lie in an archive beside it.

    Attributes:
        file: name of the archive.
        round: of the checkpoint.
        count: number of clients that have a state.
        digest: sum of the SHA-256 of their states modulo 2²⁵⁶, in hexadecimal.
    """

    file: str
    round: int
    count: int = 0
    digest: str = "0"


def append(folder: Path, before: Archived, round: int, states: Mapping[int, object], types: StateTypes) -> Archived:
    """Add the states that have changed since an earlier checkpoint.

    Args:
        folder: where the archive lies.
        before: what that checkpoint noted, see :func:`goes_on_from`; rows behind its round are of a branch that was
            left, and are deleted.
        round: of the new checkpoint.
        states: those that changed, by client id.
        types: the dataclasses that may occur in them, by name.

    Raises:
        StateError: when a state could not be restored as it is.
        CheckpointError: when it cannot be written; the archive is as it was.
    """
    count, total = before.count, int(before.digest, 16)
    with suppress(OSError):  # where it cannot be made, opening says so
        folder.mkdir(parents=True, exist_ok=True)
    with _opened(folder / before.file) as file, file:  # one transaction
        for table in ("states", "notes"):
            file.execute(f"DELETE FROM {table} WHERE round > ?", (before.round,))
        for client, state in states.items():
            data = pack(state, types, f".clients[{client}]")
            sha = _sha(client, data)
            old = file.execute(PRESENT, (client,)).fetchone()
            count, total = count + (old is None), total + _number(sha) - (0 if old is None else _number(old[0]))
            file.execute("INSERT INTO states VALUES (?, ?, ?, ?)", (client, round, sha, data))
        note = Archived(before.file, round, count, f"{total % MODULUS:x}")
        file.execute("INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", (note.round, note.count, note.digest))
    return note


def goes_on_from(folder: Path, note: Archived) -> bool:
    """Whether an archive is there, and is the one in which a checkpoint noted its states.

    Raises:
        CheckpointError: when it is there, and cannot be read.
    """
    if not (folder / note.file).is_file():
        return False
    with _opened(folder / note.file) as file:
        found = file.execute("SELECT count, digest FROM notes WHERE round = ?", (note.round,)).fetchone()
    return bool(found == (note.count, note.digest))


def prune(folder: Path, file: str, oldest: int, since: int) -> None:
    """Delete the states that no checkpoint needs any more.

    Args:
        folder: where the archive lies.
        file: its name.
        oldest: round of the oldest checkpoint that is left.
        since: what this was when it was last called; -1 at first.

    Raises:
        CheckpointError: when it cannot be written; the archive is as it was.
    """
    with _opened(folder / file) as archive, archive:
        newer = archive.execute("SELECT client, round FROM states WHERE round > ? AND round <= ?", (since, oldest))
        archive.executemany("DELETE FROM states WHERE client = ? AND round < ?", newer.fetchall())


class ArchivedStates:
    """The private states of a checkpoint, which are read from the archive when they are asked for."""

    def __init__(self, folder: Path, note: Archived, types: StateTypes) -> None:
        """The states that ``note`` stands for, of the archive in ``folder``; all are looked at once.

        Raises:
            CheckpointError: when the archive is missing, or holds others than were noted.
        """
        self._path, self._types = folder / note.file, types
        if not self._path.is_file():
            raise CheckpointError(f"{self._path} is missing: it holds the private states of the checkpoints beside it.")
        with _opened(self._path) as file:
            rows = file.execute(LATEST, (note.round,)).fetchall()
        self._rows = sorted((client, round) for client, round, _ in rows)
        total = sum(_number(sha) for _, _, sha in rows) % MODULUS
        if (len(rows), f"{total:x}") != (note.count, note.digest):
            raise CheckpointError(
                f"{self._path} is damaged: expected the states of {note.count} clients that the checkpoint of round "
                f"{note.round} noted, found {len(rows)} or others. Resume from another checkpoint, or from a copy."
            )
        for _ in self.portions():
            pass

    def portions(self, size: int = 256) -> Iterator[dict[int, object]]:
        """The states by client id, ``size`` of them at a time, so that they need not be in memory all at once.

        Raises:
            CheckpointError: for a state that is not as it was noted, or does not fit this version.
        """
        with _opened(self._path) as file:
            for first in range(0, len(self._rows), size):
                yield {client: self._read(file, client, round) for client, round in self._rows[first : first + size]}

    def some(self, clients: Collection[int]) -> dict[int, object]:
        """The states of those among some clients that have one, by client id.

        Raises:
            CheckpointError: as :meth:`portions` does.
        """
        with _opened(self._path) as file:
            return {client: self._read(file, client, round) for client, round in self._rows if client in clients}

    def _read(self, file: sqlite3.Connection, client: int, round: int) -> object:
        sha, data = file.execute(ROW, (client, round)).fetchone()
        if _sha(client, data) != sha:
            raise CheckpointError(f"{self._path} is damaged: the state of client {client} is not as it was noted.")
        try:
            return unpack(data, self._types)
        except ValueError as error:
            raise CheckpointError(f"{self._path}: a state does not fit this version of Strata: {error}.") from None


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(SCHEMA)
            yield connection
    except sqlite3.Error as error:
        raise CheckpointError(f"{path}: {error}. {_remedy(error)}") from None


def _remedy(error: sqlite3.Error) -> str:
    if "full" in str(error) or "open" in str(error):
        return "Free some space, or make the folder writable, and resume the run."
    return "Resume from another checkpoint, or from a copy of this file."


def _sha(client: int, data: bytes) -> bytes:
    return hashlib.sha256(b"%d/" % client + data).digest()


def _number(sha: bytes) -> int:
    return int.from_bytes(sha, "big")
