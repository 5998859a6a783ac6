"""Where records of rounds go: what a sink is, and how one that fails is kept from ending a run."""

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from strata.engine.rounds.records import RoundRecord

CHECKPOINTS, LEARNT = "checkpoints", "agents"
"""Folders of a run directory."""

Plain = Mapping[str, Any]
"""Nested plain values, as JSON and YAML files hold them."""


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
    config: Plain
    seed: int
    versions: Mapping[str, str]
    rounds: int
    resumed_round: int


@runtime_checkable
class Sink(Protocol):
    """A consumer of a run's records. The calls come in this order, in the driver."""

    def start(self, run: RunInfo) -> None:
        """Take note that the run begins, or goes on after ``run.resumed_round``."""

    def round(self, record: RoundRecord) -> None:
        """Take a completed global round."""

    def finish(self, summary: Mapping[str, object], exit_code: int) -> None:
        """Take the end of the run: 0 done, 130 interrupted, else failed. Also called where the sink failed before."""


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
        """Start the sink that is guarded."""
        self._try(lambda: self._sink.start(run))

    def round(self, record: RoundRecord) -> None:
        """Pass a round on to the sink that is guarded, unless that failed before."""
        if not self.failed:
            self._try(lambda: self._sink.round(record))

    def finish(self, summary: Mapping[str, object], exit_code: int) -> None:
        """Finish the sink that is guarded, whatever became of it."""
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
