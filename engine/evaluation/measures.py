"""What is measured of outputs against targets: sums that pool by addition, what follows from them, and areas under ROC.

# n samples, K classes or labels, D columns of numbers
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from strata.engine.data.dataset import Task
from strata.engine.errors import TrainingError
from strata.engine.method.losses import target_loss
from strata.engine.method.requests import Evaluate, Evaluation, Sums

FloatArray = NDArray[np.float64]
ACCURACY = "accuracy"


@dataclass(frozen=True)
class Measure:
    """A measure: its name in files, how people call it, whether less of it is better, whether it is a share 0..1."""

    name: str
    title: str
    falls: bool = False
    is_share: bool = False

    def better(self, value: float, other: float) -> bool:
        """Whether a value is better than another."""
        return value < other if self.falls else value > other

    def best(self, values: Iterable[float]) -> float:
        """The best of some values."""
        return min(values) if self.falls else max(values)


KNOWN = {
    one.name: one
    for one in (
        Measure(ACCURACY, "accuracy", is_share=True),
        Measure("macro_f1", "macro F1", is_share=True),
        Measure("exact_match", "exact match", is_share=True),
        Measure("auc", "AUC", is_share=True),
        Measure("rmse", "RMSE", falls=True),
        Measure("mae", "MAE", falls=True),
        Measure("r2", "R²"),
        Measure("perplexity", "perplexity", falls=True),
    )
}

MEASURES: Mapping[Task, Sequence[str]] = {
    "classification": (ACCURACY, "macro_f1", "auc"),
    "next_token": (ACCURACY, "perplexity"),
    "regression": ("rmse", "mae", "r2"),
    "multi_label": ("macro_f1", "exact_match", "auc"),
}
"""The measures of each task that can be its headline, by which models are compared, runs end, and clients are called
served well or badly. The first is it, unless another is asked for."""


def measure_of(name: str) -> Measure:
    """The measure of this name; one of the user's own is called as it is."""
    return KNOWN.get(name, Measure(name, name))


def headline_of(task: Task, asked: str = "") -> Measure:
    """The headline of a task: the measure that is asked for, maybe one of the user's own, or else the task's first."""
    return measure_of(asked or MEASURES[task][0])


def evaluated(request: Evaluate, outputs: Tensor, targets: Tensor, where: str) -> Evaluation:
    """The evaluation of outputs (n, K) or (n, D) against targets, for all tasks but those with one class a sample."""
    losses = target_loss(outputs, targets).sum(dtype=torch.float64) if len(targets) else torch.zeros(())
    regression = targets.dtype.is_floating_point
    right = 0 if regression else int(((outputs > 0) == targets.bool()).all(1).sum())
    sums = _errors(outputs, targets) if regression else _hits(outputs, targets)
    return Evaluation(right, len(targets), float(losses), sums=sums, further=further(request, outputs, targets, where))


def further(request: Evaluate, outputs: Tensor, targets: Tensor, where: str) -> dict[str, float]:
    """What an evaluation's own metrics give on outputs and targets, by name; what is not defined there is left out.

    Raises:
        TrainingError: when a metric raises something, or gives no number.
    """
    found = {}
    for name, metric in request.further if len(targets) else ():
        try:
            value = float(metric(outputs.cpu(), targets.cpu()))
        except Exception as error:  # a metric of the user's own may raise anything
            raise TrainingError(
                f"{where}: the metric {name} raised {type(error).__name__}: {error}. It is called with outputs "
                f"{tuple(outputs.shape)} and targets {tuple(targets.shape)}, and gives a number."
            ) from error
        if math.isfinite(value):
            found[name] = value
    return found


def _errors(outputs: Tensor, targets: Tensor) -> Sums:
    errors, y = (outputs - targets).to(torch.float64), targets.to(torch.float64)
    return {"squares": _of(errors.square()), "sizes": _of(errors.abs()), "y": _of(y), "y_squares": _of(y.square())}


def _hits(outputs: Tensor, targets: Tensor) -> Sums:
    found, held = outputs > 0, targets.bool()
    return {"right": _of(found & held), "found": _of(found), "held": _of(held)}


def _of(values: Tensor) -> tuple[float, ...]:
    return tuple(values.sum(0, dtype=torch.float64).tolist())


def measured(task: Task, evaluations: Sequence[Evaluation]) -> dict[str, float]:
    """The measures of a task by name, of the samples of some evaluations together, one sample at least.

    R² is the mean over the columns whose targets differ, and left out where none does. Macro-F1 is the mean over the
    labels that a sample has or that were found in one, and 1 where no label is either.
    """
    samples = sum(one.samples for one in evaluations)
    if task == "regression":
        return _of_numbers(_added(evaluations), samples)
    if task == "multi_label":
        exact = sum(one.correct for one in evaluations) / samples
        return {"macro_f1": _macro_f1(_added(evaluations)), "exact_match": exact}
    if task == "next_token":
        mean_loss = sum(one.loss_sum for one in evaluations) / samples
        return {"perplexity": math.exp(mean_loss) if mean_loss < 700 else math.inf}
    return {}


def _added(evaluations: Sequence[Evaluation]) -> dict[str, FloatArray]:
    names = evaluations[0].sums
    return {name: np.sum([one.sums[name] for one in evaluations], axis=0, dtype=np.float64) for name in names}


def _of_numbers(sums: Mapping[str, FloatArray], samples: int) -> dict[str, float]:
    found = {
        "rmse": math.sqrt(float(sums["squares"].mean()) / samples),
        "mae": float(sums["sizes"].mean()) / samples,
    }
    spread_D = sums["y_squares"] - sums["y"] ** 2 / samples
    differ = spread_D > 1e-9 * sums["y_squares"]  # below that it is rounding
    if differ.any():
        found["r2"] = float((1 - sums["squares"][differ] / spread_D[differ]).mean())
    return found


def _macro_f1(sums: Mapping[str, FloatArray]) -> float:
    occurring = sums["found"] + sums["held"] > 0
    if not occurring.any():
        return 1.0
    return float((2 * sums["right"] / np.maximum(sums["found"] + sums["held"], 1))[occurring].mean())


def pooled(evaluations: Sequence[Evaluation]) -> dict[str, float]:
    """The means of clients' own metrics by name, weighted by samples, over the clients in which each is defined."""
    names = dict.fromkeys(name for one in evaluations for name in one.further)
    having = {name: [one for one in evaluations if name in one.further] for name in names}
    return {
        name: sum(one.samples * one.further[name] for one in ones) / sum(one.samples for one in ones)
        for name, ones in having.items()
    }


def auc(outputs: Tensor, targets: Tensor) -> float:
    """The area under the ROC curve, 0..1: of a class against the rest, its mean over the classes.

    By the softmax of logits (n, K) against classes (n,), for two classes of the second alone; or by the logits of each
    label against labels (n, K). Classes or labels that all samples have, or none, are left out; NaN where all are.
    """
    if targets.dim() == 1:
        scores = outputs.to(torch.float64).softmax(1).numpy()
        held = np.arange(outputs.shape[1]) == targets.numpy()[:, None]
        scores, held = (scores[:, 1:], held[:, 1:]) if outputs.shape[1] == 2 else (scores, held)
    else:
        scores, held = outputs.to(torch.float64).numpy(), targets.numpy() > 0
    areas = [_area(scores[:, k], held[:, k]) for k in range(held.shape[1]) if 0 < held[:, k].sum() < len(held)]
    return float(np.mean(areas)) if areas else math.nan


def _area(scores: FloatArray, held: NDArray[np.bool_]) -> float:
    """The share of pairs of a sample that is of the class and one that is not, in which the first has the larger score.

    Equal scores count half (Mann and Whitney's U).
    """
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (counts.cumsum() - (counts - 1) / 2)[place]  # of equal ones their mean
    inside = int(held.sum())
    return float((ranks[held].sum() - inside * (inside + 1) / 2) / (inside * (len(held) - inside)))
