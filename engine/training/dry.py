"""A trainer that computes nothing: what requests would cost."""

from strata.engine.data.dataset import Dataset, IntArray
from strata.engine.method.losses import Batch
from strata.engine.method.requests import Evaluate, Evaluation, Train, Trained, Work
from strata.engine.training.trainer import Trainer


class DryTrainer(Trainer):
    """A trainer that counts what a request would cost and computes nothing."""

    def __init__(self, dataset: Dataset) -> None:
        """Costs do not depend on a device."""
        super().__init__(dataset, "cpu")

    def _train(self, request: Train, rows: IntArray, seed: int, work: Work, where: str) -> Trained:
        for size, count in batch_sizes(len(rows), request).items():
            batch = Batch(*self._rows.fetch(rows[:size]), request.constants)
            work.flops += count * self._count_flops(request, batch)
            work.samples += count * size
            work.steps += count
        return Trained(request.start, 0.0)

    def _evaluate(self, request: Evaluate, rows: IntArray) -> Evaluation:
        return Evaluation(0, len(rows), 0.0)  # nothing is right


def batch_sizes(n: int, request: Train) -> dict[int, int]:
    """How many steps of a request see a batch of which size, on a client with ``n`` samples."""
    full, rest = divmod(n, request.batch_size)
    per_pass = full + bool(rest)
    steps = request.length.in_steps(per_pass)
    if request.repeat_batch:
        return {min(n, request.batch_size): steps}
    passes, over = divmod(steps, per_pass)
    # What is over is less than a pass, and the smaller batch comes at a pass's end: these are full ones.
    counts = {request.batch_size: passes * full + over, rest: passes}
    return {size: count for size, count in counts.items() if size and count}
