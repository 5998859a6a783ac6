"""What a run tells of single clients, in columns: every call, and every headline (accuracy), as parquet files.

``RUN/clients/calls`` and ``RUN/clients/scores`` are folders that are read as one table each
(``pandas.read_parquet("RUN/clients/calls")``). Every round is a file of its own as soon as it is done; each 64 rounds
are then joined, so that a long run does not end with thousands of files.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from strata.engine.errors import StrataError
from strata.engine.method.calls import NO_TEAM, PLAIN, STATUSES, CallTable
from strata.engine.rounds.records import RoundRecord, Scores

FOLDER, CALLS, SCORES = "clients", "calls", "scores"
JOINED = 64
METRIC = "metrics."
PART = re.compile(r"(\d+)-(\d+)\.parquet")


class Part(NamedTuple):
    """A file, and the rounds that it holds, first and last."""

    path: Path
    first: int
    last: int


class ClientTables:
    """Writes both tables of a run, round by round; a resumed run first drops the rounds that it is about to repeat."""

    def __init__(self, run_dir: Path, resumed_round: int) -> None:
        """Open the tables behind round ``resumed_round``.

        Raises:
            OSError: when they cannot be written.
            StrataError: for a file that is damaged.
        """
        self._folders = [run_dir / FOLDER / name for name in (CALLS, SCORES)]
        for folder in self._folders:
            folder.mkdir(parents=True, exist_ok=True)
            valid = list(_parts(folder))
            for part in set(_files(folder)) - set(valid):
                part.path.unlink()
            for part in valid:
                if part.first > resumed_round:
                    part.path.unlink()
                elif part.last > resumed_round:
                    _shorten(part, resumed_round)
                elif resumed_round:
                    _table(part.path)

    def add(self, record: RoundRecord) -> None:
        """Write what a round tells of its clients.

        Raises:
            OSError: when it cannot be written, e.g. on a full disk.
        """
        tables = _calls(record.round, record.calls), _scores(record.round, record.scores)
        for folder, table in zip(self._folders, tables, strict=True):
            if len(table):
                _write(table, folder, record.round, record.round)
            if record.round % JOINED == 0:
                _join([part for part in _parts(folder) if part.first > record.round - JOINED], folder)


def read_calls(run_dir: Path) -> pa.Table:
    """Every client call of a run: its round, and the columns of a :class:`~strata.engine.method.calls.CallTable`.

    What clients reported is in columns ``metrics.NAME``; statuses are names; null stands for what is not there.
    """
    return _read(run_dir / FOLDER / CALLS)


def read_scores(run_dir: Path) -> pa.Table:
    """Headline (accuracy) of every client in every evaluated round: ``round``, ``client``, a column a kind of model."""
    return _read(run_dir / FOLDER / SCORES)


def calls_by_round(run_dir: Path) -> Mapping[int, Sequence[Mapping[str, Any]]]:
    """The calls of each round as plain values, as :meth:`~strata.engine.method.calls.CallTable.rows` gives them."""
    found: dict[int, list[Mapping[str, Any]]] = {}
    for row in read_calls(run_dir).to_pylist():
        plain = {name: value for name, value in row.items() if not name.startswith(METRIC) and name != "round"}
        told = {name.removeprefix(METRIC): value for name, value in row.items() if name.startswith(METRIC)}
        plain["metrics"] = {name: value for name, value in told.items() if value is not None}
        found.setdefault(row["round"], []).append(plain)
    return found


def _calls(round: int, calls: CallTable) -> pa.Table:
    columns = {name: _numbers(getattr(calls, name)) for name in PLAIN if name != "device"}
    columns |= {"device": _words(calls.device.tolist()), "team": _numbers(calls.team, calls.team != NO_TEAM)}
    columns["status"] = _words([STATUSES[status] for status in calls.status])
    told = {f"{METRIC}{name}": _numbers(values) for name, values in calls.metrics.items()}
    return _of_round(round, len(calls), {**{name: columns[name] for name in PLAIN}, **told})


def _scores(round: int, scores: Mapping[str, Scores]) -> pa.Table:
    clients = sorted({client for one in scores.values() for client in one.clients})
    columns = {
        kind: _numbers(np.array([one.clients.get(client, np.nan) for client in clients], np.float64))
        for kind, one in scores.items()
    }
    return _of_round(round, len(clients), {"client": _numbers(np.array(clients, np.int64)), **columns})


def _of_round(round: int, rows: int, columns: Mapping[str, pa.Array]) -> pa.Table:
    return pa.table({"round": _numbers(np.full(rows, round, np.int64)), **columns})


# Columns are made of buffers, because pa.array imports pandas to see whether it was given something of that: 0.3 s and
# 50 MB in every run.


def _numbers(values: NDArray[Any], there: NDArray[np.bool_] | None = None) -> pa.Array:
    """A column of numbers; null where they are NaN, or not ``there``."""
    plain = np.ascontiguousarray(values)
    there = ~np.isnan(plain) if there is None and plain.dtype.kind == "f" else there
    marks = None if there is None else pa.py_buffer(np.packbits(there, bitorder="little"))
    return pa.Array.from_buffers(pa.from_numpy_dtype(plain.dtype), len(plain), [marks, pa.py_buffer(plain)])


def _words(values: Sequence[str]) -> pa.Array:
    """A column of text."""
    text = [value.encode() for value in values]
    ends = np.cumsum([0, *map(len, text)], dtype=np.int32)
    return pa.Array.from_buffers(pa.utf8(), len(text), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(text))])


def _table(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except pa.ArrowException as error:
        raise StrataError(
            f"{path}: it is damaged: {error}. It holds what single clients did in those rounds, and no other file "
            "does; delete it to go on without."
        ) from None


def _files(folder: Path) -> list[Part]:
    return [Part(path, int(m[1]), int(m[2])) for path in folder.iterdir() if (m := PART.fullmatch(path.name))]


def _parts(folder: Path) -> Iterator[Part]:
    """The files of a table, in the order of rounds; not those whose rounds are in another as well, after a kill."""
    covered = 0
    for part in sorted(_files(folder), key=lambda part: (part.first, -part.last)):
        if part.last > covered:
            covered = part.last
            yield part


def _read(folder: Path) -> pa.Table:
    if not folder.is_dir():
        raise StrataError(f"{folder} is missing: expected the tables of a run's clients.")
    tables = [_table(part.path) for part in _parts(folder)]
    empty = pa.table({"round": pa.array([], pa.int64()), "client": pa.array([], pa.int64())})
    return pa.concat_tables(tables, promote_options="default").combine_chunks() if tables else empty


def _write(table: pa.Table, folder: Path, first: int, last: int) -> Path:
    path = folder / f"{first:06d}-{last:06d}.parquet"
    aside = folder / f".{path.name}.tmp"
    try:
        pq.write_table(table, aside)
        os.replace(aside, path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    return path


def _join(parts: Sequence[Part], folder: Path) -> None:
    """Make one file of several."""
    if len(parts) < 2:
        return
    tables = pa.concat_tables([_table(part.path) for part in parts], promote_options="default")
    made = _write(tables.combine_chunks(), folder, parts[0].first, parts[-1].last)
    for part in parts:
        if part.path != made:
            part.path.unlink()


def _shorten(part: Part, last: int) -> None:
    """Keep only the rounds up to ``last`` of a file."""
    _write(_table(part.path).filter(pc.field("round") <= last), part.path.parent, part.first, last)
    part.path.unlink()
