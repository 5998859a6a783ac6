"""Targets as they stand in a file, and the task that they make: classes, numbers, several labels, or the next token.

# N samples, K classes or labels, D columns of numbers
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from strata.engine.data.config import DataConfig
from strata.engine.data.dataset import Task
from strata.engine.data.mapped import chunks
from strata.engine.data.remarks import Remarks
from strata.engine.data.sources.labels import KEEP, number_labels
from strata.engine.errors import DataError

LARGE = 10.0
"""A deviation or a mean of numbers from here on, or a deviation below its inverse, is said: steps are sized for 1."""


@dataclass(frozen=True)
class Targets:
    """What samples are to be told.

    Attributes:
        task: what a model does with them.
        y: of each sample that has a target: classes or tokens ``(N,)`` int64, numbers ``(N, D)`` float32, or labels
            ``(N, K)`` uint8 of 0 and 1.
        names: of the K classes or labels, or of the D columns; empty for tokens.
        kept: True for the samples that have a target ``(N,)``, or None where all have.
        remarks: what was chosen.
    """

    task: Task
    y: NDArray[np.generic]
    names: Sequence[str]
    kept: NDArray[np.bool_] | None = None
    remarks: Remarks = field(default_factory=Remarks)


def flattened(y: NDArray[np.generic], asked: str) -> tuple[NDArray[np.generic], Remarks]:
    """Targets ``(N, 1)`` as ``(N,)``, and rows with a single 1 as the number of its column; others as they are.

    ``asked`` is ``data.task``: a row with a single 1 is of several labels where that says so, or of numbers.
    """
    if y.ndim != 2:
        return y, Remarks()
    if y.shape[1] == 1:
        return y[:, 0], Remarks().noted(f"y of shape {y.shape} is read as {y.shape[:1]}")
    if asked in ("auto", "classification") and _is_binary(y) and (y.sum(axis=1) == 1).all():
        return y.argmax(axis=1), Remarks().noted(f"y of shape {y.shape} is read as the column of each row's 1")
    return y, Remarks()


def task_of(labels: NDArray[np.generic], names: Sequence[str], asked: str, where: str) -> Task:
    """What targets ``(N,)`` or ``(N, D)`` are for, as ``data.task`` says, or, with ``auto``, as they themselves do.

    Several columns of 0 and 1 are labels, several columns of other fractions numbers; a column with fractions is
    numbers, and every other one a class.

    Raises:
        DataError: for several columns that could be either.
    """
    if asked != "auto":
        return cast(Task, asked)  # checked when the configuration was read
    if labels.ndim == 2 and _is_binary(labels):
        return "multi_label"
    if labels.ndim == 2 and labels.dtype.kind != "f":
        raise DataError(
            f"{where}: y is {labels.dtype} of shape {labels.shape}, which may be several numbers or something else. "
            "Set data.task=regression if they are numbers; expected else one class a sample, (N,), or 0 and 1, (N, K)."
        )
    if labels.ndim == 2:
        return "regression"
    return "regression" if not names and _has_fractions(labels) else "classification"


def read_targets(
    labels: NDArray[np.generic], names: Sequence[str], test: NDArray[np.bool_] | None, config: DataConfig, where: str
) -> Targets:
    """Targets as they stand in a file, for the task that ``data.task`` names or that they are beyond doubt for.

    Args:
        labels: ``(N,)`` or ``(N, D)``.
        names: of the classes, labels or columns, where the source has them.
        test: True for samples of the published test split ``(N,)``, or None; numbers are scaled by the others.
        config: ``task``, ``no_label`` and ``target_scale``.
        where: the source, for errors.

    Raises:
        DataError: for targets that do not fit the task; see also
            :func:`~strata.engine.data.sources.labels.number_labels`.
    """
    task = task_of(labels, names, config.task, where)
    if task != "classification" and config.no_label not in ("", KEEP):
        raise DataError(f"data.no_label={config.no_label}: {where} is read for {task}. Expected none there.")
    if task != "regression" and config.target_scale != "none":
        raise DataError(f"data.target_scale={config.target_scale}: {where} is read for {task}. Expected none there.")
    if task == "regression":
        made = _numbers(labels, names, test, config, where)
    elif task == "multi_label":
        made = _several(labels, names, where)
    elif task == "next_token":
        made = Targets(task, _tokens(labels, where), ())
    else:
        if labels.ndim != 1:
            raise DataError(f"{where}: y has shape {labels.shape}; expected one class a sample, ({len(labels)},).")
        found = number_labels(labels, names, config.no_label, where)
        return Targets(task, found.classes, found.names, found.kept, found.remarks)
    chosen = "" if config.task == "auto" else " (data.task)"
    said = f"task: {task.replace('_', ' ')}{chosen}, of targets {labels.dtype} of shape {labels.shape}"
    return replace(made, remarks=Remarks().noted(said) + made.remarks)


def _numbers(
    labels: NDArray[np.generic], names: Sequence[str], test: NDArray[np.bool_] | None, config: DataConfig, where: str
) -> Targets:
    y = _columns(labels, where, "numbers")
    broken = sum(part.size - int(np.isfinite(part).sum()) for part in chunks(y))
    if broken:
        raise DataError(f"{where}: {broken} of {y.size} target values are missing or not finite. Remove those rows.")
    known = np.asarray(y if test is None else y[~test], np.float64)
    mean_D, deviation_D = known.mean(axis=0), known.std(axis=0)
    if not deviation_D.all():
        raise DataError(
            f"{where}: all targets are {mean_D[deviation_D == 0][0]:g}{' in a column' * (y.shape[1] > 1)}, so there is "
            "nothing to learn. data.target names the columns of the target."
        )
    named = tuple(names) or tuple(map(str, range(y.shape[1])))
    if config.target_scale == "standard":
        said = (
            f"targets: less their mean {_listed(mean_D)}, by their deviation {_listed(deviation_D)} (data.target_scale)"
        )
        scaled = (np.asarray(y, np.float64) - mean_D) / deviation_D
        return Targets("regression", scaled.astype(np.float32), named, remarks=Remarks().noted(said))
    remarks = Remarks()
    if (np.abs(mean_D) >= LARGE).any() or (deviation_D >= LARGE).any() or (deviation_D <= 1 / LARGE).any():
        remarks = remarks.warned(
            f"{where}: targets have the mean {_listed(mean_D)} and the deviation {_listed(deviation_D)}, where step "
            "sizes are made for about 0 and 1. data.target_scale=standard scales them, and what is measured with them."
        )
    whole = y.dtype == np.float32 and y.flags.c_contiguous
    return Targets("regression", y if whole else np.ascontiguousarray(y, np.float32), named, remarks=remarks)


def _several(labels: NDArray[np.generic], names: Sequence[str], where: str) -> Targets:
    y = _columns(labels, where, "labels, 0 or 1 each")
    if not _is_binary(y):
        raise DataError(f"{where}: targets of several labels hold more than 0 and 1; expected (N, K) of those.")
    if names and len(names) != y.shape[1]:
        raise DataError(f"{where}: y has {y.shape[1]} columns, and {len(names)} labels are named. Name each.")
    named = tuple(names) or tuple(map(str, range(y.shape[1])))
    if (y == y[0]).all():
        raise DataError(f"{where}: all samples have the same labels, so there is nothing to tell apart.")
    empty = [named[column] for column in np.flatnonzero(~y.astype(np.bool_).any(axis=0))]
    if empty:
        raise DataError(f"{where}: no sample has the label {empty[0]!r}. Leave its column out.")
    return Targets("multi_label", np.ascontiguousarray(y, np.uint8), named)


def _tokens(labels: NDArray[np.generic], where: str) -> NDArray[np.generic]:
    whole = labels.ndim == 1 and labels.dtype.kind in "iu"
    if not whole or (labels.astype(np.int64) < 0).any():
        raise DataError(
            f"{where}: y is {labels.dtype} of shape {labels.shape}; expected the token id that follows each row, (N,) "
            "of whole numbers ≥ 0."
        )
    return labels.astype(np.int64)


def _columns(labels: NDArray[np.generic], where: str, what: str) -> NDArray[np.generic]:
    """Targets ``(N,)`` or ``(N, D)`` as numbers ``(N, D)``."""
    if labels.dtype.kind in "OU":
        try:
            labels = labels.astype(np.float64)
        except (ValueError, TypeError) as error:
            raise DataError(f"{where}: targets are no {what}: {error}. Choose others with data.target.") from None
    if labels.dtype.kind not in "buif" or labels.ndim not in (1, 2):
        raise DataError(f"{where}: targets are {labels.dtype} of shape {labels.shape}; expected {what}, (N, D).")
    return labels[:, None] if labels.ndim == 1 else labels


def _has_fractions(values: NDArray[np.generic]) -> bool:
    finite = (part[np.isfinite(part)] for part in chunks(values)) if values.dtype.kind == "f" else ()
    return any((part != np.floor(part)).any() for part in finite)


def _is_binary(values: NDArray[np.generic]) -> bool:
    return values.dtype.kind in "buif" and all(np.isin(part, (0, 1)).all() for part in chunks(values))


def _listed(values: NDArray[np.float64]) -> str:
    shown = ", ".join(f"{value:.4g}" for value in values[:4])
    return f"{shown}, …" if len(values) > 4 else shown
