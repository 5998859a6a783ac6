"""Memory that the processes of one machine see together: who is lent some of it reads what another has written there.

A message of a megabyte takes milliseconds through Ray's object store, in which it is announced, sealed, looked up and
asked for at every end; here it is one copy, and a few words say where. A segment has a name but no place among files
(``memfd_create``): it is gone with the last process that has it open, however that one ends.
"""

import mmap
import os
import secrets
import threading
import weakref
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from strata.engine.errors import ClusterError

HEADER = 4096  # bytes at the beginning of a segment: which use this is, and what each reader has done
TURN = 8  # of them, for the former
ALIGNED = 64  # where a buffer may begin, in bytes: for vector instructions
GRANULE = 1 << 16  # bytes by which segments grow
MOST_LENT = 64 << 20  # bytes of one message; what is larger takes longer to write than to announce
MOST_KEPT = 256 << 20  # bytes of a process's segments in all
MOST_SEGMENTS = 64  # each takes one of the files that a process may have open, of which there are often 1,024
AMPLE = 4  # times what a message takes: what is larger is left to large ones, and given back where there are none
IDLE = 64  # so many messages later, a segment that none of them needed is given back to the system

LENT, READ, RETURNED = range(3)  # what has become of a loan


class Loan(NamedTuple):
    """Where some buffers lie for one reader: whoever has it, on the same machine, may borrow them once."""

    process: int
    file: int
    name: str
    size: int
    turn: int
    reader: int
    lengths: tuple[int, ...]

    @property
    def path(self) -> str:
        """Where Linux shows the segment to other processes of the same user."""
        return f"/proc/{self.process}/fd/{self.file}"


def is_there(loan: Loan) -> bool:
    """Whether what is lent is in this process's sight: it was lent on the same machine, and can be read still."""
    # The name is looked at before anything is opened: on another machine the number may be anybody's.
    with suppress(OSError):
        return os.readlink(loan.path) == f"/memfd:{loan.name} (deleted)" and os.access(loan.path, os.R_OK | os.W_OK)
    return False


class Segment:
    """A piece of this process's memory that others can see."""

    def __init__(self, size: int) -> None:
        """Take ``size`` bytes beside the header.

        Raises:
            OSError: when the system has no more files or memory.
        """
        self.size, self.name, self.turn, self.readers = size, f"strata-{secrets.token_hex(8)}", 0, 0
        self.file = os.memfd_create(self.name)
        os.ftruncate(self.file, HEADER + size)
        self.memory = mmap.mmap(self.file, HEADER + size)
        self.lending: weakref.ref[Lending] | None = None
        self.used = 0  # at which message of its process, last

    def is_free(self) -> bool:
        """Whether nobody reads what was written last, or will."""
        if self.lending is not None and self.lending() is not None:
            return False
        return self.memory[TURN : TURN + self.readers] == bytes([RETURNED]) * self.readers

    def close(self) -> None:
        """Nobody can find it any more; those who have it in view still have it."""
        os.close(self.file)


class Lending:
    """Buffers that lie in a segment, as long as somebody may still be lent them."""

    def __init__(self, segment: Segment, buffers: Sequence[memoryview]) -> None:
        """Write the buffers, bytes without gaps, into a segment that is free."""
        self._segment = segment
        self._lengths = tuple([len(buffer) for buffer in buffers])
        segment.turn, segment.readers, segment.lending = segment.turn + 1, 0, weakref.ref(self)
        segment.memory[:TURN] = segment.turn.to_bytes(TURN, "little")
        for start, buffer in zip(_starts(self._lengths), buffers, strict=False):
            segment.memory[HEADER + start : HEADER + start + len(buffer)] = buffer

    def loan(self) -> Loan | None:
        """What one more reader needs; None where there are as many as fit in a header."""
        segment = self._segment
        reader = segment.readers
        if TURN + reader == HEADER:
            return None
        segment.memory[TURN + reader] = LENT
        segment.readers += 1
        return Loan(os.getpid(), segment.file, segment.name, segment.size, segment.turn, reader, self._lengths)


class Segments:
    """The segments of this process, and those of others that it has in view."""

    def __init__(self) -> None:
        """There are none yet."""
        self._own: list[Segment] = []
        self._in_view: dict[str, tuple[Loan, mmap.mmap]] = {}
        self._lock = threading.Lock()
        self._lent = 0
        self._sign: tuple[Lending | None, Loan | None] | None = None

    @property
    def sign(self) -> Loan | None:
        """What is always lent to everybody, so that others can tell whether they see what is lent here."""
        if self._sign is None:
            lending = self.lend(())
            self._sign = lending, None if lending is None else lending.loan()
        return self._sign[1]

    def lend(self, buffers: Sequence[memoryview]) -> Lending | None:
        """Write buffers, each of bytes without gaps, where others can read them; None where there is no such memory."""
        *_, size = _starts([len(buffer) for buffer in buffers])
        if size > MOST_LENT or not hasattr(os, "memfd_create"):
            return None
        with self._lock:
            self._lent += 1
            segment = self._free(size)
            if segment is None:
                return None
            segment.used = self._lent
            return Lending(segment, buffers)

    def borrow(self, loan: Loan) -> list[memoryview]:
        """The buffers that are lent, to be read only; they are returned once nothing refers to any of them.

        Raises:
            ClusterError: when they are not there: their process has ended, or they were borrowed before.
        """
        memory = self._seen(loan)
        place = TURN + loan.reader
        if memory[:TURN] != loan.turn.to_bytes(TURN, "little") or memory[place] != LENT:
            raise ClusterError("what was lent was read before.")
        memory[place] = READ
        whole = np.frombuffer(memory, np.uint8, loan.size, HEADER)
        whole.flags.writeable = False
        weakref.finalize(whole, memory.__setitem__, place, RETURNED).atexit = False
        view = whole.data
        starts = _starts(loan.lengths)
        return [view[start : start + length] for start, length in zip(starts, loan.lengths, strict=False)]

    def forget(self) -> None:
        """Nobody asks any more for what was lent, and those who lent something may be gone."""
        with self._lock:
            for segment in self._own:
                segment.close()
            self._own, self._sign = [], None
            self._in_view.clear()

    def _free(self, size: int) -> Segment | None:
        """A segment for so many bytes that nobody reads, the smallest there is; a new one where there is none."""
        free = sorted((segment for segment in self._own if segment.is_free()), key=lambda segment: segment.used)
        fitting = [segment for segment in free if size <= segment.size <= AMPLE * size + GRANULE]
        if fitting:
            chosen = min(fitting, key=lambda segment: segment.size)
            self._give_back(segment for segment in free if segment is not chosen and segment.used < self._lent - IDLE)
            return chosen
        size = -(-size // GRANULE) * GRANULE
        while len(self._own) == MOST_SEGMENTS or sum(segment.size for segment in self._own) + size > MOST_KEPT:
            if not free:
                return None
            self._give_back([free.pop(0)])
        try:
            self._own.append(Segment(size))
        except OSError:
            return None
        return self._own[-1]

    def _give_back(self, segments: Iterable[Segment]) -> None:
        for segment in segments:
            self._own.remove(segment)
            segment.close()

    def _seen(self, loan: Loan) -> mmap.mmap:
        with self._lock:
            if loan.name not in self._in_view:
                if not is_there(loan):
                    raise ClusterError(f"process {loan.process} ended before what it said was read.")
                self._in_view = {name: seen for name, seen in self._in_view.items() if is_there(seen[0])}
                file = os.open(loan.path, os.O_RDWR)
                try:
                    memory = mmap.mmap(file, HEADER + loan.size, mmap.MAP_SHARED | mmap.MAP_POPULATE)
                finally:
                    os.close(file)
                self._in_view[loan.name] = loan, memory
            return self._in_view[loan.name][1]


def _starts(lengths: Sequence[int]) -> list[int]:
    """Where each of some buffers begins, one behind the other, and where the last ends."""
    return list(accumulate((-(-length // ALIGNED) * ALIGNED for length in lengths), initial=0))
