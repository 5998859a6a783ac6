"""Where the records of a run go: the :class:`Sink` protocol, the metric files of a run directory, and a guard.

Sinks live in the driver process only. ``metrics.jsonl`` is the run's own result: a failure to write it is an error.
Every other sink is wrapped in a :class:`GuardedSink`, so that a broken tracker or display never stops a run.
"""

import json
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

from engine.errors import StrataError, StrataWarning
from engine.metrics import to_plain
from engine.records import CallRecord, RoundRecord, Scores

CONFIG, METRICS, TIMING = "config.yaml", "metrics.jsonl", "timing.jsonl"


@dataclass(frozen=True)
class RunInfo:
    """What a sink learns about a run before its first round.

    Attributes:
        run_dir: folder of the run.
        algorithm: name of the method.
        config: the resolved configuration as nested plain values.
        seed: the run's seed.
        versions: versions by package.
        rounds: global rounds planned.
        resumed_round: rounds that were done before; 0 for a fresh run.
    """

    run_dir: Path
    algorithm: str
    config: Mapping[str, Any]
    seed: int
    versions: Mapping[str, str]
    rounds: int
    resumed_round: int


class Sink(Protocol):
    """A consumer of a run's records. The calls come in this order, in the driver."""

    def start(self, run: RunInfo) -> None:
        """Take note that the run begins, or goes on after ``run.resumed_round``."""

    def round(self, record: RoundRecord) -> None:
        """Take a completed global round."""

    def finish(self, summary: Mapping[str, object], exit_code: int) -> None:
        """Take the end of the run: 0 done, 130 interrupted, else failed. Also called where the sink failed before."""


class JsonlSink:
    """Writes ``metrics.jsonl``, one round a line with all its client calls, and ``timing.jsonl``.

    Equal runs write equal bytes to ``metrics.jsonl``: the wall-clock seconds, which never repeat, go to
    ``timing.jsonl``. A resumed run first drops the rounds that it is about to repeat, and ends with the same file as
    an undisturbed one.
    """

    def __init__(self) -> None:
        self._files: list[TextIO] = []
        self._dir = Path()

    def start(self, run: RunInfo) -> None:
        """Open both files behind round ``run.resumed_round``.

        Raises:
            StrataError: when they cannot be written.
        """
        self._dir = run.run_dir
        with _explained(self._dir):
            for name in (METRICS, TIMING):
                _truncate(run.run_dir / name, run.resumed_round)
                self._files.append((run.run_dir / name).open("a", encoding="utf8"))

    def round(self, record: RoundRecord) -> None:
        """Append a line to each file and hand it to the operating system: a killed run loses nothing.

        Raises:
            StrataError: when it cannot be written, e.g. on a full disk.
        """
        timing = {"round": record.round, "wall_s": record.wall_s, "agents_wall_s": record.agents_wall_s}
        with _explained(self._dir):
            for file, plain in zip(self._files, (to_plain(record), timing), strict=True):
                file.write(json.dumps(_strict(plain), allow_nan=False) + "\n")
                file.flush()

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


def _strict(value: Any) -> Any:
    """Plain JSON that every reader accepts: null for NaN and infinities, built-in numbers for NumPy's."""
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if value is None or isinstance(value, str | int):
        return value
    return number if math.isfinite(number := float(value)) else None


def _truncate(path: Path, last_round: int) -> None:
    """Keep the lines up to ``last_round``; replaced in one step: a kill leaves the old file or the new."""
    if not path.exists():
        return
    kept = "".join(f"{line}\n" for line, plain in _lines(path) if plain["round"] <= last_round)
    aside = path.with_name(f".{path.name}.tmp")
    aside.write_text(kept, encoding="utf8")
    os.replace(aside, path)


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
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


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the rounds of a ``metrics.jsonl`` as nested plain records; a last line that was cut off is left out."""
    return [plain for _, plain in _lines(path)]


def record_from_plain(plain: Mapping[str, Any]) -> RoundRecord:
    """Rebuild the record that a line of ``metrics.jsonl`` was made of (``wall_s`` is 0, null scores are NaN)."""
    scores = {kind: Scores(**{**_numbers(s), "clients": _by_client(s)}) for kind, s in plain["scores"].items()}
    return RoundRecord(**{**plain, "scores": scores, "calls": [CallRecord(**call) for call in plain["calls"]]})


def _numbers(scores: Mapping[str, Any]) -> dict[str, Any]:
    return {key: math.nan if value is None else value for key, value in scores.items()}


def _by_client(scores: Mapping[str, Any]) -> dict[int, float]:
    return {int(client): accuracy for client, accuracy in scores["clients"].items()}


def to_stderr(text: str) -> None:
    """One line on stderr, for reports that have no display to go to."""
    sys.stderr.write(f"{text}\n")


class GuardedSink:
    """A sink whose failures are reported once and switch it off, instead of ending the run.

    Its ``finish`` is called all the same, so that it lets go of what it holds: a terminal, a process.
    """

    def __init__(self, sink: Sink, name: str, report: Callable[[str], None] = to_stderr) -> None:
        self._sink, self._name, self._report = sink, name, report
        self.failed = False

    def start(self, run: RunInfo) -> None:
        """Start the sink."""
        self._try(lambda: self._sink.start(run))

    def round(self, record: RoundRecord) -> None:
        """Pass a round on, unless the sink failed before."""
        if not self.failed:
            self._try(lambda: self._sink.round(record))

    def finish(self, summary: Mapping[str, object], exit_code: int) -> None:
        """Finish the sink, whatever became of it."""
        self._try(lambda: self._sink.finish(summary, exit_code))

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            if not self.failed:
                self._tell(f"warning: {self._name} failed and is switched off; the run goes on. {_cause(error)}")
            self.failed = True

    def _tell(self, text: str) -> None:
        try:
            self._report(text)
        except Exception:  # the display itself may be what failed
            with suppress(Exception):
                to_stderr(text)


def _cause(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
