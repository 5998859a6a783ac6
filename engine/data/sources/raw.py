"""What every reader hands over: inputs, labels as they stand in the file, splits and clients; and how it becomes a set.

# N samples, K classes
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from strata.engine.data.dataset import Dataset, IntArray
from strata.engine.data.mapped import chunks
from strata.engine.errors import DataError

TABLE_SUFFIXES = {"csv": (".csv",), "tsv": (".tsv",), "parquet": (".parquet",), "jsonl": (".jsonl", ".ndjson")}
"""How names of tables end, by their format."""


@dataclass(frozen=True)
class Raw:
    """A data set as read, before its labels are numbered.

    Attributes:
        x: inputs ``(N, ...)``.
        labels: label of each sample ``(N,)``: strings, booleans or whole numbers.
        test: True for samples of the published test split ``(N,)``, or None.
        natural: name or number of each sample's client ``(N,)``, of str or whole numbers, or None.
        names: the K class names where the source has them; ``labels`` are then already ``0..K-1``.
        vocabulary: number of token ids where ``x`` holds encoded text, else 0.
    """

    x: NDArray[np.generic]
    labels: NDArray[np.generic]
    test: NDArray[np.bool_] | None = None
    natural: NDArray[np.generic] | None = None
    names: Sequence[str] = ()
    vocabulary: int = 0


def split_flags(train: int, test: int) -> NDArray[np.bool_] | None:
    """Flags ``(train + test,)`` of samples in that order: False for training rows, True for the published test rows.

    None where either number is 0: there is then no published split.
    """
    return np.repeat([False, True], [train, test]) if train and test else None


def number_labels(labels: NDArray[np.generic], where: str) -> tuple[IntArray, list[str]]:
    """Number labels ``(N,)`` from 0 to K-1, in the order of their K values; ``where`` names the source in errors.

    Returns:
        classes ``(N,)`` int64, and the K labels as text.

    Raises:
        DataError: for missing labels, or for fractional numbers (a regression target).
    """
    if labels.dtype.kind == "O":
        labels = np.array([str(label) for label in labels])
    if labels.dtype.kind == "f":
        missing = int((~np.isfinite(labels)).sum())
        if missing:
            raise DataError(f"{where}: {missing} of {len(labels)} labels are missing or not finite. Remove those rows.")
        if np.any(labels != np.floor(labels)):
            raise DataError(
                f"{where}: the target has fractional values such as {labels[labels != np.floor(labels)][0]:g}; "
                "Strata trains classifiers. Choose the column of the class with data.target=COLUMN."
            )
        labels = labels.astype(np.int64)
    values = np.unique(np.concatenate([np.unique(part) for part in chunks(labels)]))
    names = [str(value) for value in values]
    if labels.dtype == np.int64 and np.array_equal(values, np.arange(len(values))):
        return cast(IntArray, labels), names  # numbered already, and maybe on the disk
    return np.searchsorted(values, labels).astype(np.int64), names


def to_dataset(raw: Raw, name: str, where: str) -> Dataset:
    """Check what was read and make it a :class:`~strata.engine.data.dataset.Dataset`.

    ``uint8`` inputs stay as they are; other whole numbers become int64 and other numbers float32. Rows of whole numbers
    ``(N, length)``, none negative, are token ids.

    Raises:
        DataError: for an empty set, lengths that differ, labels outside the classes, or inputs that are not finite.
    """
    if not len(raw.x) or len(raw.x) != len(raw.labels):
        raise DataError(
            f"{where}: {len(raw.x)} inputs and {len(raw.labels)} labels; expected one label an input, and at least one."
        )
    if raw.names:
        classes, names = raw.labels.astype(np.int64), list(raw.names)
        if classes.min() < 0 or classes.max() >= len(names):
            raise DataError(f"{where}: labels {classes.min()}..{classes.max()}, expected 0..{len(names) - 1}.")
    else:
        classes, names = number_labels(raw.labels, where)
    x = _plain_inputs(raw.x, where)
    return Dataset(
        name=name,
        x=x,
        y=classes,
        classes=len(names),
        class_names=tuple(names),
        natural=raw.natural,
        natural_test=raw.test,
        vocabulary=raw.vocabulary or _token_ids(x),
    )


def _token_ids(x: NDArray[np.generic]) -> int:
    """Count the token ids of a set that was tokenised elsewhere; 0 where inputs are something else."""
    return int(x.max()) + 1 if x.dtype == np.int64 and x.ndim == 2 and x.size and x.min() >= 0 else 0


def _plain_inputs(x: NDArray[np.generic], where: str) -> NDArray[np.generic]:
    """Return inputs as contiguous uint8, int64 or float32."""
    if x.dtype.kind not in "uifb":
        raise DataError(f"{where}: inputs are of type {x.dtype}; expected numbers.")
    if x.dtype == np.uint8:
        return _contiguous(x, np.uint8)
    if x.dtype.kind in "ui":
        return _contiguous(x, np.int64)
    bad = sum(part.size - int(np.isfinite(part).sum()) for part in chunks(x))
    if bad:
        raise DataError(f"{where}: {bad} input values are missing or not finite. Fill or remove them.")
    return _contiguous(x, np.float32)


def _contiguous(x: NDArray[np.generic], kind: type[np.generic]) -> NDArray[np.generic]:
    """The same values in C order and of a type; what is so already stays where it is, be it on the disk."""
    return x if x.flags.c_contiguous and x.dtype == kind else np.ascontiguousarray(x, dtype=kind)
