"""When clients are there: instants at which each goes on and off, from a CSV trace, in virtual seconds.

Only columns are held, and many clients are asked about at once: a population of a million is a few arrays.

# T clients of the trace, M intervals, C clients that are asked about
"""

import hashlib
import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from strata.engine.clock.csv_rows import read_client, read_rows
from strata.engine.errors import DataError

KEY = "delays.availability_trace"
COLUMNS = ("client", "on_s", "off_s")
NUDGES = 64

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Presence:
    """Who is there when. Client i of a run is client ``i mod T`` of the trace: its rows are used again.

    A client is there from ``on_s`` until just before ``off_s``. After the last interval it is off for good, unless the
    trace repeats.

    Attributes:
        starts: where the intervals of each client of the trace begin, ``(T + 1,)``.
        on_s, off_s: of each interval, by client and ascending, ``(M,)``; none touches the next.
        period_s: virtual seconds after which the trace repeats; 0: it does not.
    """

    starts: Ints
    on_s: Floats
    off_s: Floats
    period_s: float = 0.0

    def here(self, clients: Sequence[int] | Ints, now_s: float) -> NDArray[np.bool_]:
        """Which of some clients ``(C,)`` are there at a virtual second, ``(C,)``."""
        rows, places, local_s = self._at(clients, now_s)
        begun = places >= self.starts[rows]
        left_s = np.where(begun, self.off_s[places] - local_s, 0.0)
        return begun & (now_s + left_s > now_s)  # what is over before the clock can show it is over

    def off_after_s(self, client: int, now_s: float) -> float:
        """Virtual seconds until a client goes off; 0 where it is off, infinite where it never does."""
        rows, places, local_s = self._at([client], now_s)
        place, first, end = int(places[0]), int(self.starts[rows[0]]), int(self.starts[rows[0] + 1])
        if place < first or self.off_s[place] <= local_s:
            return 0.0
        if self.off_s[place] != self.period_s or self.on_s[first] > 0:
            return float(self.off_s[place]) - local_s
        if place == first:  # from the beginning of the period to its end
            return math.inf
        assert place == end - 1
        return float(self.off_s[place]) - local_s + float(self.off_s[first])

    def wait_s(self, clients: Sequence[int] | Ints, now_s: float) -> float:
        """Virtual seconds until one of some clients ``(C,)`` is there: 0 where one is, and where none ever will be."""
        if self.here(clients, now_s).any():
            return 0.0
        wait = float(self._on_after_s(clients, now_s).min(initial=math.inf))
        if math.isinf(wait):
            return 0.0
        grain = float(np.spacing(now_s + wait))
        for _ in range(NUDGES):  # the sum may be rounded to just before the instant
            if self.here(clients, now_s + wait).any():
                break
            wait, grain = wait + grain, 2 * grain
        return wait

    def _on_after_s(self, clients: Sequence[int] | Ints, now_s: float) -> Floats:
        """Virtual seconds until each client, who is off now, comes on, ``(C,)``; infinite where none does."""
        rows, places, local_s = self._at(clients, now_s)
        following = places + 1  # also of one that has not been on yet: its first
        first = self.starts[rows]
        again = self.period_s - local_s + self.on_s[first] if self.period_s else np.full(len(rows), math.inf)
        return np.where(
            following < self.starts[rows + 1], self.on_s[np.minimum(following, len(self.on_s) - 1)] - local_s, again
        )

    def _at(self, clients: Sequence[int] | Ints, now_s: float) -> tuple[Ints, Ints, float]:
        """Each client's row, the last of its intervals that has begun (the one before its first: none), and the time.

        The time is that within the period.
        """
        rows = np.asarray(clients, np.int64) % (len(self.starts) - 1)
        local_s = math.fmod(now_s, self.period_s) if self.period_s else now_s
        instants, keys = self._keys
        begun = int(np.searchsorted(instants, local_s, "right"))
        places = np.searchsorted(keys, rows * (len(instants) + 1) + begun, "right") - 1
        return rows, places, local_s

    @cached_property
    def _keys(self) -> tuple[Floats, Ints]:
        """Instants at which somebody comes on, each once; and an interval's number, which grows by row and instant."""
        instants, ranks = np.unique(self.on_s, return_inverse=True)
        rows = np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))
        return instants, rows * (len(instants) + 1) + ranks.reshape(-1) + 1

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the instants."""
        digest = hashlib.sha256(repr(self.period_s).encode())
        for column in (self.starts, self.on_s, self.off_s):
            digest.update(column.tobytes())
        return digest.hexdigest()


def read_presence(path: str, period_s: float) -> Presence:
    """Who is there when, of a CSV file with the columns client, on_s and off_s: a line an interval, several a client.

    Clients are whole numbers, in any order, and are numbered anew in ascending order. Intervals of a client do not
    overlap; ``inf`` is for ever.

    Args:
        path: of the file.
        period_s: virtual seconds after which it repeats, and within which all its instants lie; 0: it does not.

    Raises:
        DataError: with the line, what it holds and what was expected.
    """
    clients, lines, on_s, off_s = array("q"), array("q"), array("d"), array("d")
    for line, row in read_rows(KEY, path, COLUMNS):
        try:
            clients.append(read_client(row["client"]))
            _append(row, period_s or math.inf, on_s, off_s)
        except ValueError as error:
            raise DataError(f"{path}, line {line}: {error}.") from None
        lines.append(line)
    if not clients:
        raise DataError(f"{path}: expected at least one interval below the header, found none.")
    who, begins, ends = np.array(clients), np.array(on_s), np.array(off_s)
    order = np.lexsort((begins, who))
    return _joined(path, np.array(lines)[order], who[order], begins[order], ends[order], period_s)


def _append(row: dict[str, str], last_s: float, on_s: "array[float]", off_s: "array[float]") -> None:
    begin, end = _seconds("on_s", row["on_s"]), _seconds("off_s", row["off_s"])
    if not 0 <= begin < end or begin == math.inf:
        raise ValueError(f"on_s is {row['on_s']} and off_s {row['off_s']}, expected 0 ≤ on_s < off_s")
    if end > last_s:
        raise ValueError(f"off_s is {row['off_s']}, expected at most delays.availability_period_s={last_s:g}")
    on_s.append(begin)
    off_s.append(end)


def _seconds(name: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if math.isnan(seconds):
        raise ValueError(f"{name} is {text!r}, expected virtual seconds ≥ 0 (inf: for ever)")
    return seconds


def _joined(path: str, lines: Ints, who: Ints, on_s: Floats, off_s: Floats, period_s: float) -> Presence:
    """Intervals by client and ascending, of which those that touch become one."""
    same = who[1:] == who[:-1]
    if len(over := np.flatnonzero(same & (on_s[1:] < off_s[:-1]))):
        first, second = sorted(lines[over[0] : over[0] + 2].tolist())
        raise DataError(
            f"{path}, line {second}: client {who[over[0]]} is on already, by line {first}; expected intervals that do "
            "not overlap."
        )
    apart = ~same | (on_s[1:] != off_s[:-1])
    begins, ends = np.concatenate([[True], apart]), np.concatenate([apart, [True]])
    counts = np.unique(who[begins], return_counts=True)[1]
    return Presence(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), on_s[begins], off_s[ends], period_s)
