"""The table, CSV and picture of chosen architectures, at a run's end or later."""

from collections.abc import Mapping
from pathlib import Path

from strata.cluster.sinks.choices import PICTURE, TABLE, Architectures, chooses, read_architectures
from strata.cluster.sinks.display import Display
from strata.cluster.sinks.sink import RunInfo
from strata.engine.method.find import load_method
from strata.engine.rounds.records import RoundRecord


def leave(found: Architectures) -> None:
    """Write ``architectures.csv`` and ``architectures.png`` into the folder of the run."""
    (found.run_dir / TABLE).write_text(found.csv(), encoding="utf8")
    from strata.cluster.sinks.choices_plot import draw  # matplotlib is slow to import, and most runs do not need it

    draw(found, found.run_dir / PICTURE)


class ArchitecturesSink:
    """Ends a run with what was chosen for each client; for methods whose clients report that, others are left alone.

    It reads what :class:`~strata.cluster.sinks.jsonl.JsonlSink` wrote, and so has to be finished after it.
    """

    def __init__(self, display: Display) -> None:
        """Make a sink whose table is shown on ``display``."""
        self._display = display
        self._run_dir: Path | None = None

    def start(self, run: RunInfo) -> None:
        """Look whether the method has architectures to choose."""
        self._run_dir = run.run_dir if chooses(load_method(run.algorithm)) else None

    def round(self, record: RoundRecord) -> None:
        """Take nothing: all rounds are on disk."""

    def finish(self, summary: Mapping[str, object], exit_code: int) -> None:
        """Show the table, write the CSV and draw the picture, unless no client was called."""
        if self._run_dir is None or not summary.get("rounds"):
            return
        found = read_architectures(self._run_dir)
        self._display.show(found.table())
        leave(found)
        for line in found.reading():
            self._display.message(line)
