"""TensorBoard: every round's metrics as scalars, for ``tensorboard --logdir runs``."""

from collections.abc import Mapping

from tensorboardX import SummaryWriter

from strata.cluster.sinks.metrics import metrics_of
from strata.cluster.sinks.sink import RunInfo
from strata.engine.rounds.records import RoundRecord

FOLDER = "tensorboard"


class TensorboardSink:
    """Writes event files below the run directory, under the names that Weights & Biases has too; steps are rounds."""

    def __init__(self) -> None:
        self._writer: SummaryWriter | None = None

    def start(self, run: RunInfo) -> None:
        """Open a file of events; what was logged of rounds that a resumed run makes again is left out."""
        again = run.resumed_round + 1 if run.resumed_round else None
        self._writer = SummaryWriter(str(run.run_dir / FOLDER), purge_step=again)

    def round(self, record: RoundRecord) -> None:
        """Write the metrics of a round."""
        assert self._writer is not None, "start comes first"
        for name, value in metrics_of(record).items():
            self._writer.add_scalar(name, value, record.round)
        self._writer.flush()

    def finish(self, summary: Mapping[str, object], exit_code: int) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
