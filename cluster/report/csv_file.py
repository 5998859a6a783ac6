"""A run's rounds as a CSV file, for spreadsheets."""

from collections.abc import Mapping
from pathlib import Path

from strata.cluster.report.frame import read_rounds
from strata.cluster.sinks.jsonl import METRICS
from strata.cluster.sinks.sink import RunInfo
from strata.engine.rounds.records import RoundRecord

CSV = "metrics.csv"


class CsvSink:
    """Writes ``metrics.csv`` at the end of a run: a line per round, the columns of :mod:`~strata.cluster.report.frame`.

    Only then, because which metrics a run has is known at its end; ``metrics.jsonl`` holds every round at once.
    """

    def __init__(self) -> None:
        self._dir: Path | None = None

    def start(self, run: RunInfo) -> None:
        """Note where the run lies."""
        self._dir = run.run_dir

    def round(self, record: RoundRecord) -> None:
        """Do nothing: the round is in ``metrics.jsonl``."""

    def finish(self, summary: Mapping[str, object], exit_code: int) -> None:
        """Write all rounds of the run, those before a resume too."""
        assert self._dir is not None, "start comes first"
        read_rounds(self._dir / METRICS).to_csv(self._dir / CSV)
