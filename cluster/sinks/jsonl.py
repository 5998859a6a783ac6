"""The metric files of a run directory: writing them, and reading them back.

``metrics.jsonl``, one round a line, is the run's own result, as are the tables of single clients beside it
(:mod:`~strata.cluster.sinks.by_client`): a failure to write them is an error. Every other sink is wrapped in a
:class:`~strata.cluster.sinks.sink.GuardedSink`, so that a broken tracker or display never stops a run.
"""

import json
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, SupportsFloat, TextIO

from strata.cluster.footprint import peak_bytes
from strata.cluster.sinks.by_client import ClientTables
from strata.cluster.sinks.sink import Plain, RunInfo
from strata.engine.errors import StrataError, StrataWarning
from strata.engine.method.calls import CallTable
from strata.engine.rounds.records import RoundRecord, Scores
from strata.engine.rounds.scores import to_plain

WALL = ("wall_s", "agents_wall_s")  # what of a record is measured
CONFIG, METRICS, TIMING, CONFUSION = "config.yaml", "metrics.jsonl", "timing.jsonl", "confusion.json"


class JsonlSink:
    """Writes ``metrics.jsonl``, one round a line, ``timing.jsonl``, and the tables of single clients.

    And ``confusion.json``, if it was asked for: the last evaluation's matrices by kind of model, with its ``round``.

    Equal runs write equal bytes to ``metrics.jsonl``: what never repeats, wall seconds and the most memory that this
    process has had so far, goes to ``timing.jsonl``. A resumed run first drops the rounds that it is about to repeat,
    and ends with the same file as an undisturbed one.
    """

    def __init__(self) -> None:
        self._files: list[TextIO] = []
        self._dir = Path()
        self._clients: ClientTables | None = None

    def start(self, run: RunInfo) -> None:
        """Open all files behind round ``run.resumed_round``.

        Raises:
            StrataError: when they cannot be written.
        """
        self._dir = run.run_dir
        with _explained(self._dir):
            for name in (METRICS, TIMING):
                _truncate(run.run_dir / name, run.resumed_round)
                self._files.append((run.run_dir / name).open("a", encoding="utf8"))
            self._clients = ClientTables(run.run_dir, run.resumed_round)

    def round(self, record: RoundRecord) -> None:
        """Write a round and hand it to the operating system: a killed run loses nothing.

        Raises:
            StrataError: when it cannot be written, e.g. on a full disk.
        """
        wall = {name: getattr(record, name) for name in WALL}
        timing = {"round": record.round, **wall, "peak_bytes": peak_bytes()}
        assert self._clients is not None, "start comes first"
        with _explained(self._dir):
            self._clients.add(record)
            for file, plain in zip(self._files, (_lean(to_plain(record)), timing), strict=True):
                file.write(json.dumps(_strict(plain), allow_nan=False) + "\n")
                file.flush()
            _write_confusion(record, self._dir)

    def finish(self, summary: Mapping[str, object], exit_code: int) -> None:
        """Close both files; the summary is for people and trackers, it can be computed from the rounds."""
        for file in self._files:
            with suppress(OSError):  # every line was flushed before; an error of the disk was reported then
                file.close()
        self._files = []


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turn an error of the disk into one that says what to do."""
    try:
        yield
    except OSError as error:
        raise StrataError(
            f"{folder}: the metrics cannot be written: {error}. Free the disk, or choose another folder with output=…; "
            f"afterwards continue with: strata run resume={folder}"
        ) from error


def _lean(plain: Plain) -> Plain:
    """A plain record without what it tells of single clients, and without matrices: they have files of their own."""
    apart = ("clients", "confusion")
    scores = {kind: {k: v for k, v in own.items() if k not in apart} for kind, own in plain["scores"].items()}
    return {**plain, "scores": scores}


def _write_confusion(record: RoundRecord, folder: Path) -> None:
    found = {kind: one.confusion for kind, one in record.scores.items() if one.confusion is not None}
    if found:
        _replace(folder / CONFUSION, json.dumps({"round": record.round, **found}) + "\n")


def _strict(value: object) -> object:
    """Plain JSON that every reader accepts: null for NaN and infinities, built-in numbers for NumPy's."""
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if value is None or isinstance(value, str | int):
        return value
    if not isinstance(value, SupportsFloat):
        raise TypeError(f"{value!r} in a record: expected text, a number, or a list or mapping of them.")
    return number if math.isfinite(number := float(value)) else None


def _truncate(path: Path, last_round: int) -> None:
    """Keep the lines up to ``last_round``; replaced in one step: a kill leaves the old file or the new."""
    if not path.exists():
        return
    kept = "".join(f"{line}\n" for line, plain in _lines(path) if plain["round"] <= last_round)
    _replace(path, kept)


def _replace(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.tmp")
    aside.write_text(text, encoding="utf8")
    os.replace(aside, path)


def _lines(path: Path) -> Iterator[tuple[str, Plain]]:
    """Yield the whole lines of a metrics file, as text and as records; one that was cut off by a kill is left out."""
    lines = path.read_text(encoding="utf8", errors="replace").split("\n")
    for number, line in enumerate(lines, 1):
        try:
            plain = json.loads(line)
            plain["round"] += 0  # a line without a round is as broken as one that is no JSON
        except (ValueError, KeyError, TypeError):
            if line and number < len(lines):
                warnings.warn(f"{path}, line {number}: not a round; it is left out.", StrataWarning, stacklevel=3)
            continue
        if number < len(lines):  # a line without its line break was cut off, even where what is left can be read
            yield line, plain


def read_metrics(path: Path) -> list[Plain]:
    """Return the rounds of a ``metrics.jsonl`` as nested plain records; a last line that was cut off is left out."""
    return [plain for _, plain in _lines(path)]


def record_from_plain(plain: Plain) -> RoundRecord:
    """Rebuild the record that a line of ``metrics.jsonl`` was made of, but for single clients; null scores are NaN."""
    scores = {kind: Scores(**{**_numbers(s), "clients": {}}) for kind, s in plain["scores"].items()}
    return RoundRecord(**{**plain, "scores": scores, "calls": CallTable.of([])})


def read_records(run_dir: Path) -> Iterator[RoundRecord]:
    """The rounds of a run directory as records, with their wall seconds, but for single clients."""
    timing = {plain["round"]: plain for plain in read_timing(run_dir)}
    for plain in read_metrics(run_dir / METRICS):
        measured = timing.get(plain["round"], {})
        yield record_from_plain({**plain, **{name: measured[name] for name in WALL if name in measured}})


def read_timing(run_dir: Path) -> list[Plain]:
    """What was measured of the rounds of a run directory; empty where nothing was."""
    return read_metrics(run_dir / TIMING) if (run_dir / TIMING).exists() else []


def _numbers(scores: Plain) -> dict[str, Any]:
    return {
        key: _numbers(value) if isinstance(value, Mapping) else math.nan if value is None else value
        for key, value in scores.items()
    }
