"""What a model takes for what: counts of true and predicted classes, and what follows from them.

# n samples, K classes, P pairs of a true and a predicted class that occur
"""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from strata.engine.data.dataset import IntArray
from strata.engine.method.requests import Evaluate, Metric, Pairs, Request

R = TypeVar("R")


def paired(true: Tensor, predicted: Tensor) -> IntArray:
    """True classes (N, P) above predicted ones, of each of N clients: (N, 2, P), on the CPU."""
    array: IntArray = torch.stack([true, predicted], 1).cpu().numpy()
    return array


def pairs_of(batches: Sequence[IntArray]) -> Pairs:
    """How often which class was taken for which, of batches ``(2, n)``: true classes above predicted ones."""
    if not batches:
        return ()
    found, counts = np.unique(np.concatenate(batches, axis=1), axis=1, return_counts=True)
    return tuple(zip(*found.tolist(), counts.tolist(), strict=True))


def asking_for(
    steps: Generator[Request, Any, R], pairs: bool, further: tuple[tuple[str, Metric], ...]
) -> Generator[Request, Any, R]:
    """A client's evaluation, each model of which is asked for its pairs, or for further metrics, as well."""
    answer = None
    while True:
        try:
            request = steps.send(answer)
        except StopIteration as stop:
            value: R = stop.value
            return value
        more = replace(request, pairs=pairs, further=further) if isinstance(request, Evaluate) else request
        answer = yield more


def matrix_of(pairs: Iterable[tuple[int, int, int]], classes: int) -> IntArray:
    """The confusion matrix (K, K) of pairs, which may repeat: rows are true classes, columns predicted ones."""
    counts_KK = np.zeros((classes, classes), np.int64)
    for true, predicted, count in pairs:
        counts_KK[true, predicted] += count
    return counts_KK


def macro_f1(pairs: Iterable[tuple[int, int, int]]) -> float:
    """The mean F1 of the classes that occur, as true or as predicted ones; pairs may repeat, one at least.

    F1 of a class is 2 · right / (samples of it + predictions of it), 0..1: it is 0 for a class that is never predicted.
    """
    true_P, predicted_P, count_P = np.array(list(pairs), np.int64).T
    classes = int(max(true_P.max(), predicted_P.max())) + 1
    right_P = np.where(true_P == predicted_P, count_P, 0)
    sums = np.zeros((2, classes), np.int64)
    np.add.at(sums[0], true_P, right_P)
    for sides in (true_P, predicted_P):
        np.add.at(sums[1], sides, count_P)
    occurring = sums[1] > 0
    return float((2 * sums[0][occurring] / sums[1][occurring]).mean())
