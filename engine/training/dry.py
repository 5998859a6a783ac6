"""A trainer that computes nothing: what requests would cost."""

from collections.abc import Sequence

import torch

from strata.engine.data.dataset import Dataset
from strata.engine.method.losses import Batch
from strata.engine.method.requests import (
    Answer,
    Evaluation,
    Gradient,
    MeanGradient,
    Recalibrate,
    Recalibrated,
    Represent,
    Train,
    Trained,
)
from strata.engine.training.batches import Rows, batch_sizes, calibration_batches, gradient_sizes, step_sizes
from strata.engine.training.flops import COUNTS, select_trainable
from strata.engine.training.modules import Modules
from strata.engine.training.sequential import Sequential
from strata.engine.training.trainer import Asked, Broken


class Dry:
    """A :class:`~strata.engine.training.trainer.Trainer` that counts what requests would cost.

    Training returns the start, recalibration what it was given, a gradient is zero, evaluation finds nothing right.
    Features are computed, because how much a method sends may depend on the classes that they are of.
    """

    def __init__(self, dataset: Dataset) -> None:
        """Keep the data set on the CPU: what requests cost does not depend on the device."""
        self._rows, self._flops, self._shape = Rows(dataset, torch.device("cpu")), COUNTS, dataset.x.shape[1:]
        self._computing, self._modules = Sequential(dataset), Modules(torch.device("cpu"))

    def answer(self, asked: Sequence[Asked]) -> list[Answer | Broken]:
        """Answer one request after the other without training; what each would cost is added to its ``work``."""
        return [self._answer(one) for one in asked]

    def _answer(self, asked: Asked) -> Answer | Broken:
        if isinstance(asked.request, Train):
            return self._train(asked, asked.request)
        if isinstance(asked.request, Gradient):
            return self._differentiate(asked, asked.request)
        if isinstance(asked.request, Represent):
            (made,) = self._computing.answer([asked])
            return made
        if isinstance(asked.request, Recalibrate):
            return self._recalibrate(asked, asked.request)
        return Evaluation(0, len(asked.rows), 0.0)

    def _recalibrate(self, asked: Asked, request: Recalibrate) -> Recalibrated:
        for positions in calibration_batches(len(asked.rows), request, asked.seed):
            x, _ = self._rows.fetch(asked.rows[positions])
            asked.work.flops += self._flops.forward(request.model, x)
        return Recalibrated(request.params)

    def _train(self, asked: Asked, request: Train) -> Trained:
        for size, count in batch_sizes(len(asked.rows), request).items():
            self._add(asked, request, size, count)
        steps = sum(step_sizes(len(asked.rows), request).values())
        asked.work.steps += steps
        return Trained(request.start, 0.0, steps)

    def _differentiate(self, asked: Asked, request: Gradient) -> MeanGradient:
        for size, count in gradient_sizes(len(asked.rows)).items():
            self._add(asked, request, size, count)
        trainable = select_trainable(self._modules.bare(request.model), request.trainable)
        zeros = {name: torch.zeros_like(value) for name, value in trainable.items()}
        return MeanGradient(zeros, 0.0, len(asked.rows))

    def _add(self, asked: Asked, request: Train | Gradient, size: int, count: int) -> None:
        """Add ``count`` batches of that size to a client's work."""

        def batch() -> Batch:
            return Batch(*self._rows.fetch(asked.rows[:size]), request.constants)

        asked.work.flops += count * self._flops.step_of(request, (size, *self._shape), batch)
        asked.work.samples += count * size
