"""What every reader hands over: inputs, labels as they stand in the file, splits and clients; and how it becomes a set.

# N samples, K classes
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from strata.engine.data.config import DataConfig
from strata.engine.data.dataset import Dataset
from strata.engine.data.mapped import chunks
from strata.engine.data.remarks import Remarks
from strata.engine.data.sources.labels import decoded
from strata.engine.data.sources.ranges import PLAIN, asked_range, range_of
from strata.engine.data.supervision import read_targets
from strata.engine.errors import DataError

TABLE_SUFFIXES = {"csv": (".csv",), "tsv": (".tsv",), "parquet": (".parquet",), "jsonl": (".jsonl", ".ndjson")}
"""How names of tables end, by their format."""


@dataclass(frozen=True)
class Raw:
    """A data set as read, before its labels are numbered.

    Attributes:
        x: inputs ``(N, ...)``.
        labels: target of each sample ``(N,)`` or ``(N, D)``: strings, booleans or numbers.
        test: True for samples of the published test split ``(N,)``, or None.
        natural: name or number of each sample's client ``(N,)``, of str or whole numbers, or None.
        names: the K class names where the source has them, ``labels`` are then already ``0..K-1``; or names of the
            columns of ``labels``.
        vocabulary: number of token ids where ``x`` holds encoded text, else 0.
        ready: whether inputs are as a model takes them already, so that they have no range.
        remarks: what the reader says of how it read the set.
    """

    x: NDArray[np.generic]
    labels: NDArray[np.generic]
    test: NDArray[np.bool_] | None = None
    natural: NDArray[np.generic] | None = None
    names: Sequence[str] = ()
    vocabulary: int = 0
    ready: bool = False
    remarks: Remarks = field(default_factory=Remarks)


def split_flags(train: int, test: int) -> NDArray[np.bool_] | None:
    """Flags ``(train + test,)`` of samples in that order: False for training rows, True for the published test rows.

    None where either number is 0: there is then no published split.
    """
    return np.repeat([False, True], [train, test]) if train and test else None


def distinct_keys(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    """A JSON object from its keys and values; of a key that is there twice json itself would keep only the last.

    Raises:
        ValueError: naming such a key.
    """
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return made


def client_names(clients: NDArray[np.generic] | None, where: str) -> tuple[NDArray[np.generic] | None, Remarks]:
    """Names of the samples' clients ``(N,)`` as text, without blanks at either end; whole numbers on the disk stay.

    None where there are none.

    Raises:
        DataError: if a sample has no client, which ``where`` then names.
    """
    if clients is None:
        return None, Remarks()
    if isinstance(clients, np.memmap) and clients.dtype.kind in "iu":
        return np.asarray(clients), Remarks()  # a tenth of the memory
    missing = 0
    if clients.dtype.kind in "fO":
        missing = sum(name is None or name != name for name in clients.tolist())
    names = decoded(clients).astype(np.str_)
    bare = np.char.strip(names)
    missing = missing or int((bare == "").sum())
    if missing:
        raise DataError(
            f"{where}: {missing} of {len(clients)} samples have no client. Name one for each, or drop them."
        )
    before, after = len(np.unique(names)), len(np.unique(bare))
    if after == before:
        return bare, Remarks()
    return bare, Remarks().warned(
        f"{where}: blanks at the ends of clients' names are left out: {before} became {after}."
    )


def published_flags(test: NDArray[np.generic], where: str) -> NDArray[np.bool_] | None:
    """Flags of the published test samples ``(N,)``; None where all samples are of one split.

    Raises:
        DataError: if they are no flags, such as numbers of rows.
    """
    if test.dtype.kind not in "buif" or not np.isin(test, (0, 1)).all():
        odd = next((value for value in test.tolist() if value not in (0, 1)), None)
        raise DataError(
            f"{where}: test holds {odd!r}, expected a flag for each row, 0 or 1. If it lists the numbers of test rows, "
            "save numpy.isin(numpy.arange(len(X)), test) instead."
        )
    flags = test.astype(np.bool_)
    return flags if flags.any() and not flags.all() else None


def to_dataset(raw: Raw, name: str, where: str, config: DataConfig) -> Dataset:
    """Check what was read and make it a :class:`~strata.engine.data.dataset.Dataset`.

    Inputs of ``uint8`` and ``int64`` stay as they are, other numbers become float32. Rows of whole numbers
    ``(N, length)`` of other types than ``uint8``, none negative, are token ids, unless a range is asked for. The range
    of the rest is that of :func:`~strata.engine.data.sources.ranges.range_of`.

    Args:
        raw: what was read.
        name: what the set is called in tables.
        where: the source, for errors.
        config: its ``range``, and what it says of targets.

    Raises:
        DataError: for an empty set, lengths that differ, labels that are none (see
            :func:`~strata.engine.data.sources.labels.number_labels`), a single class, or inputs that are not finite or
            not of the range that is asked for.
    """
    if not len(raw.x) or len(raw.x) != len(raw.labels):
        raise DataError(
            f"{where}: {len(raw.x)} inputs and {len(raw.labels)} labels; expected one label an input, and at least one."
        )
    targets = read_targets(raw.labels, raw.names, raw.test, config, where)
    raw = raw if targets.kept is None else _rows(raw, targets.kept)
    asked = asked_range(config.range)
    vocabulary = raw.vocabulary or (0 if raw.ready or asked else _token_ids(raw.x))
    x = _plain_inputs(raw.x, bool(vocabulary), where)
    if asked and (raw.ready or vocabulary):
        raise DataError(
            f"data.range={config.range}: inputs of {where} are {'token ids' if vocabulary else 'scaled already'}. "
            "Expected arrays or pictures; leave data.range=auto for others."
        )
    bounds, remarks = (PLAIN, Remarks()) if raw.ready or vocabulary else range_of(x, asked, where)
    if vocabulary:
        remarks = remarks.noted(f"inputs: rows of {x.shape[1]} token ids below {vocabulary}")
    classes = len(targets.names)
    if targets.task == "next_token":
        vocabulary = classes = _with_targets(vocabulary, targets.y, where)
    elif targets.task == "classification" and (targets.y == targets.y[0]).all():
        raise DataError(
            f"{where}: all {len(targets.y)} samples have the label {targets.names[int(targets.y[0])]!r}, so there "
            "is nothing to tell apart. Expected two classes or more; data.target names the column of the class."
        )
    return Dataset(
        name=name,
        x=x,
        y=targets.y,
        classes=classes,
        class_names=tuple(targets.names),
        natural=raw.natural,
        natural_test=raw.test,
        vocabulary=vocabulary,
        value_range=None if bounds == PLAIN and x.dtype != np.uint8 else bounds,
        remarks=raw.remarks + targets.remarks + remarks,
        task=targets.task,
    )


def _with_targets(vocabulary: int, y: NDArray[np.generic], where: str) -> int:
    """How many token ids there are where the next token is the target: those of the inputs, and of the targets."""
    if not vocabulary:
        raise DataError(
            f"{where}: data.task=next_token needs rows of token ids, whole numbers (N, length), or a table with "
            "data.text=COLUMN. Leave data.range=auto, and choose another data.task for other inputs."
        )
    return max(vocabulary, int(y.max()) + 1)


def _rows(raw: Raw, kept: NDArray[np.bool_]) -> Raw:
    """The set with those samples alone for which ``kept`` ``(N,)`` is true."""
    test = None if raw.test is None else raw.test[kept]
    return replace(
        raw,
        x=raw.x[kept],
        labels=raw.labels[kept],
        test=None if test is None or test.all() or not test.any() else test,
        natural=None if raw.natural is None else raw.natural[kept],
    )


def _token_ids(x: NDArray[np.generic]) -> int:
    """Count the token ids of a set that was tokenised elsewhere; 0 where inputs are something else."""
    whole = x.dtype.kind in "ui" and x.dtype != np.uint8
    return int(x.max()) + 1 if whole and x.ndim == 2 and x.size and x.min() >= 0 else 0


def _plain_inputs(x: NDArray[np.generic], tokens: bool, where: str) -> NDArray[np.generic]:
    """Return inputs as contiguous uint8, int64 or float32; ``tokens`` are int64."""
    if x.dtype.kind not in "uifb":
        raise DataError(f"{where}: inputs are of type {x.dtype}; expected numbers.")
    if tokens or x.dtype in (np.uint8, np.int64):
        return _contiguous(x, np.int64 if tokens else x.dtype.type)
    if x.dtype.kind in "ui":
        return _contiguous(x, np.float32)
    bad = sum(part.size - int(np.isfinite(part).sum()) for part in chunks(x))
    if bad:
        raise DataError(f"{where}: {bad} input values are missing or not finite. Fill or remove them.")
    return _contiguous(x, np.float32)


def _contiguous(x: NDArray[np.generic], kind: type[np.generic]) -> NDArray[np.generic]:
    """The same values in C order and of a type; what is so already stays where it is, be it on the disk."""
    return x if x.flags.c_contiguous and x.dtype == kind else np.ascontiguousarray(x, dtype=kind)
