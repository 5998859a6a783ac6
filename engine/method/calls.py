"""Client calls in columns: what each cost in bytes, FLOPs and virtual seconds, and what became of it.

# n client calls
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

OK, LATE, LOST, PROBE, STALE = range(5)
STATUSES = ("ok", "late", "lost", "probe", "stale")
"""What became of a call: it counted; a deadline dropped it; the client dropped out; it only assessed speed; it was
dropped because it rested on too old a state of the server."""

NO_TEAM = -1


class Call(NamedTuple):
    """One client call, as whoever made or priced it accounts for it: a row of a :class:`CallTable`."""

    client: int
    team: int
    team_round: int
    device: str
    status: int
    bytes_down: int
    bytes_up: int
    flops: int
    samples: int
    steps: int
    latency_s: float
    download_s: float
    compute_s: float
    upload_s: float
    loss: float
    metrics: Mapping[str, float]

    @property
    def total_s(self) -> float:
        """Virtual seconds from invitation to the end of the upload."""
        return self.latency_s + self.download_s + self.compute_s + self.upload_s


@dataclass(frozen=True, eq=False)
class CallTable:
    """The client calls of a round, each column ``(n,)``.

    Attributes:
        client: ids; a tiered method calls a client several times per round.
        team: the client's team, :data:`NO_TEAM` without a team tier; ``team_round``: from 1, 0 for a probe.
        device: name of the client's device class.
        status: index into :data:`STATUSES`.
        bytes_down, bytes_up: what was moved; a lost client's upload was not.
        flops, samples, steps: of the whole call, also when it was lost on the way.
        latency_s, download_s, compute_s, upload_s: virtual seconds.
        loss: mean training loss, NaN where nothing was trained or the call was lost.
        metrics: what clients reported, by name; NaN where a call reported no such thing.
    """

    client: IntArray
    team: IntArray
    team_round: IntArray
    device: NDArray[np.str_]
    status: NDArray[np.int8]
    bytes_down: IntArray
    bytes_up: IntArray
    flops: IntArray
    samples: IntArray
    steps: IntArray
    latency_s: FloatArray
    download_s: FloatArray
    compute_s: FloatArray
    upload_s: FloatArray
    loss: FloatArray
    metrics: Mapping[str, FloatArray] = field(default_factory=dict)

    @classmethod
    def of(cls, calls: Sequence[Call]) -> "CallTable":
        """The table of some calls, in their order."""
        columns = list(zip(*calls, strict=True)) or [()] * len(Call._fields)
        plain: dict[str, Any] = {
            name: np.array(values, kind) for name, values, kind in zip(PLAIN, columns[:-1], KINDS, strict=True)
        }
        reported: Sequence[Mapping[str, float]] = columns[-1]
        names = dict.fromkeys(name for one in reported for name in one)
        metrics = {name: np.array([one.get(name, np.nan) for one in reported], np.float64) for name in names}
        return cls(**plain, metrics=metrics)

    @classmethod
    def joined(cls, tables: Sequence["CallTable"]) -> "CallTable":
        """The tables of several cohorts as one, below each other in their order."""
        if len(tables) == 1:
            return tables[0]
        if not tables:
            return cls.of([])
        plain: dict[str, Any] = {name: np.concatenate([getattr(table, name) for table in tables]) for name in PLAIN}
        names = dict.fromkeys(name for table in tables for name in table.metrics)
        metrics = {
            name: np.concatenate([table.metrics.get(name, np.full(len(table), np.nan)) for table in tables])
            for name in names
        }
        return cls(**plain, metrics=metrics)

    def __len__(self) -> int:
        return len(self.client)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CallTable) or self.metrics.keys() != other.metrics.keys():
            return False
        pairs = [(getattr(self, name), getattr(other, name)) for name in PLAIN]
        pairs += [(values, other.metrics[name]) for name, values in self.metrics.items()]
        return all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in pairs)

    __hash__ = None  # type: ignore[assignment]

    @property
    def total_s(self) -> FloatArray:
        """Virtual seconds of each call, from invitation to the end of its upload."""
        return self.latency_s + self.download_s + self.compute_s + self.upload_s

    @property
    def completed(self) -> NDArray[np.bool_]:
        """Which calls were completed, ``(n,)``: the upload counted, or the probe was made."""
        return np.isin(self.status, (OK, PROBE))

    @property
    def lost(self) -> NDArray[np.bool_]:
        """Which calls were lost with their clients, ``(n,)``."""
        return np.asarray(self.status == LOST)

    def where(self, chosen: NDArray[np.bool_]) -> "CallTable":
        """The calls for which ``chosen`` ``(n,)`` is true."""
        if chosen.all():
            return self
        plain: dict[str, Any] = {name: getattr(self, name)[chosen] for name in PLAIN}
        return CallTable(**plain, metrics={name: values[chosen] for name, values in self.metrics.items()})

    def with_metrics(self, found: Mapping[int, Mapping[str, float]]) -> "CallTable":
        """The table with numbers found of clients (by id, then by name) beside what they reported."""
        metrics = dict(self.metrics)
        for name in dict.fromkeys(name for one in found.values() for name in one):
            old = metrics.get(name, np.full(len(self), np.nan))
            added = [found.get(client, {}).get(name) for client in self.client.tolist()]
            metrics[name] = np.array([o if a is None else a for o, a in zip(old, added, strict=True)], np.float64)
        return replace(self, metrics=metrics)

    def digest(self, update: Callable[[bytes], object]) -> None:
        """Tell a hash, by its ``update``, every value of the table; of what is not there, that it is not."""
        update(f"{len(self)} {sorted(self.metrics)}".encode())
        update("\0".join(self.device.tolist()).encode())
        numbers = [getattr(self, name) for name in PLAIN if name != "device"]
        for column in [*numbers, *(self.metrics[name] for name in sorted(self.metrics))]:
            is_there = column == column  # a NaN has many forms
            update(np.where(is_there, column, np.nan).tobytes() if column.dtype.kind == "f" else column.tobytes())

    def rows(self) -> Iterator[dict[str, Any]]:
        """The calls one by one, as plain JSON: statuses by name, None for what is not there."""
        columns = {name: getattr(self, name).tolist() for name in PLAIN}
        metrics = {name: values.tolist() for name, values in self.metrics.items()}
        for index in range(len(self)):
            row = {name: values[index] for name, values in columns.items()}
            row["team"] = None if row["team"] == NO_TEAM else row["team"]
            row["status"] = STATUSES[row["status"]]
            row["loss"] = None if np.isnan(row["loss"]) else row["loss"]
            row["metrics"] = {name: values[index] for name, values in metrics.items() if not np.isnan(values[index])}
            yield row


PLAIN = tuple(entry.name for entry in fields(CallTable) if entry.name != "metrics")
KINDS = tuple(
    {"device": np.str_, "status": np.int8}.get(name, np.float64 if name == "loss" or name.endswith("_s") else np.int64)
    for name in PLAIN
)
