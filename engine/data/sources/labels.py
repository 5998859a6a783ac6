"""Labels as they stand in a file, numbered as classes; what may be no label is refused.

# N samples, K classes
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from numpy.typing import NDArray

from strata.engine.data.dataset import IntArray
from strata.engine.data.mapped import chunks
from strata.engine.data.remarks import Remarks
from strata.engine.errors import DataError

KEEP = "keep"
"""Value of ``data.no_label``: every label is a class as it stands."""

NONE = frozenset({"", "?", "nan", "null", "n/a", "<na>", "nat"})
"""Texts that stand for a missing label, in lower case."""

VAGUE = frozenset({"none", "na", "missing", "unknown", "unlabeled", "unlabelled", "undefined", "-", "--", "."})
"""Texts that stand for a missing label or for a class, in lower case."""

SUMS = frozenset({"total", "grand total", "subtotal", "sum"})
"""Texts that stand for the last row of a spreadsheet where only one row has them, in lower case."""

FEW = 20
"""Below as many samples nothing is said about how many classes there are for them."""


@dataclass(frozen=True)
class Numbered:
    """Classes of samples.

    Attributes:
        classes: ``0..K-1`` of each sample that has a label, int64.
        names: the K class names.
        kept: True for the samples that have a label ``(N,)``, or None where all have.
        remarks: what was chosen.
    """

    classes: IntArray
    names: Sequence[str]
    kept: NDArray[np.bool_] | None = None
    remarks: Remarks = field(default_factory=Remarks)


def number_labels(labels: NDArray[np.generic], names: Sequence[str], no_label: str, where: str) -> Numbered:
    """Number labels ``(N,)`` from 0 to K-1, in the order of their K values.

    Args:
        labels: texts, booleans or whole numbers; whole numbers ``0..K-1`` where there are ``names``.
        names: the K class names where the source has them, else empty.
        no_label: ``data.no_label``: labels that mean none, comma separated, or :data:`KEEP`.
        where: the source, for errors.

    Raises:
        DataError: for missing labels, fractional numbers, labels outside ``names``, and labels that may mean none, or
            the same as another, unless ``no_label`` says so.
    """
    whole, remarks, kept = _plain(labels, where), Remarks(), None
    if no_label != KEEP and whole.dtype.kind == "U":
        whole, remarks = _stripped(whole)
    if no_label not in ("", KEEP):
        kept = _labelled(whole, no_label, where)
        whole = whole[kept]
        remarks = remarks.noted(f"{int((~kept).sum())} samples without a label are left out (data.no_label)")
    if names:
        return Numbered(_within(whole, names, where), names, kept, remarks)
    classes, found = _numbered(whole)
    if no_label != KEEP:
        remarks += _check(found, np.bincount(classes, minlength=len(found)), where)
    return Numbered(classes, found, kept, remarks)


def _plain(labels: NDArray[np.generic], where: str) -> NDArray[np.generic]:
    """Labels as texts, booleans or whole numbers."""
    if labels.dtype.kind == "O":
        missing = sum(label is None or label != label for label in labels)
        if missing:
            raise DataError(f"{where}: {missing} of {len(labels)} labels are missing. Remove those rows.")
        return np.array([str(label) for label in labels])
    if labels.dtype.kind != "f":
        return decoded(labels)
    missing = int((~np.isfinite(labels)).sum())
    if missing:
        raise DataError(f"{where}: {missing} of {len(labels)} labels are missing or not finite. Remove those rows.")
    if np.any(labels != np.floor(labels)):
        raise DataError(
            f"{where}: the target has fractional values such as {labels[labels != np.floor(labels)][0]:g}; "
            "a class has none. Choose the column of the class with data.target=COLUMN, or data.task=regression."
        )
    return labels.astype(np.int64)


def decoded(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Bytes as text, what is no UTF-8 in them escaped; values of another type as they are."""
    if values.dtype.kind != "S":
        return values
    return np.char.decode(cast("NDArray[np.bytes_]", values), "utf-8", "backslashreplace")


def _stripped(labels: NDArray[np.generic]) -> tuple[NDArray[np.generic], Remarks]:
    """Texts without blanks at either end."""
    found = np.unique(labels)
    bare = np.char.strip(found)
    if np.array_equal(bare, found):
        return labels, Remarks()
    blank = [str(value) for value, plain in zip(found, bare, strict=True) if value != plain]
    note = f"blanks at the ends of labels are left out: {_listed([repr(value) for value in blank])}"
    return bare[np.searchsorted(found, labels)], Remarks().noted(note)


def _labelled(labels: NDArray[np.generic], no_label: str, where: str) -> NDArray[np.bool_]:
    """Which labels ``(N,)`` are none of those that ``no_label`` lists."""
    found = np.unique(labels)
    texts, words = [str(value) for value in found], [word.strip() for word in no_label.split(",")]
    unknown = [word for word in words if word not in texts]
    if unknown:
        raise DataError(
            f"{where}: no sample has the label {unknown[0]!r} of data.no_label. Labels are {_listed(texts)}."
        )
    if set(texts) <= set(words):
        raise DataError(f"{where}: data.no_label={no_label} leaves no sample. Labels are {_listed(texts)}.")
    return np.isin(labels, found[[text in words for text in texts]], invert=True)


def _within(labels: NDArray[np.generic], names: Sequence[str], where: str) -> IntArray:
    """Labels that are numbers of ``names``."""
    classes = labels.astype(np.int64)
    if len(classes) and (classes.min() < 0 or classes.max() >= len(names)):
        raise DataError(
            f"{where}: labels {classes.min()}..{classes.max()}, expected 0..{len(names) - 1}. Where one of them means "
            "that there is no label, data.no_label leaves its rows out."
        )
    return classes


def _numbered(labels: NDArray[np.generic]) -> tuple[IntArray, list[str]]:
    """Numbers ``(N,)`` int64 of labels, and the K labels as text."""
    values = np.unique(np.concatenate([np.unique(part) for part in chunks(labels)]))
    names = [str(value) for value in values]
    if labels.dtype == np.int64 and np.array_equal(values, np.arange(len(values))):
        return cast(IntArray, labels), names  # numbered already, and maybe on the disk
    return np.searchsorted(values, labels).astype(np.int64), names


def _check(names: Sequence[str], counts: IntArray, where: str) -> Remarks:
    """Refuse labels of which one may be none, or the same as another; say which have a single sample."""
    remedy = (
        f"data.no_label=LABEL leaves the rows of a label out, data.no_label={KEEP} makes each a class as it stands."
    )
    odd = _no_label(names) or [
        name for name, count in zip(names, counts, strict=True) if name.lower() in SUMS and count == 1
    ]
    if odd:
        others = _listed([name for name in names if name != odd[0]])
        raise DataError(f"{where}: the label {odd[0]!r} looks like none{', beside ' * bool(others)}{others}. {remedy}")
    alike = _alike(names)
    if alike:
        raise DataError(f"{where}: the labels {alike[0]!r} and {alike[1]!r} look like one. Write them alike; {remedy}")
    samples, classes = int(counts.sum()), len(names)
    if samples >= FEW and classes == samples:
        raise DataError(
            f"{where}: each of {samples} samples has a label of its own, so the target is no class (it may be an "
            f"identifier). Choose the column of the class with data.target=COLUMN; {remedy}"
        )
    remarks = Remarks()
    vague = [name for name in names if name.lower() in VAGUE]
    if list(names) == ["-1", "0", "1"] or vague:
        odd = vague or ["-1"]
        others = _listed([name for name in names if name not in odd])
        remarks = remarks.warned(f"{where}: the label {_listed(odd)} is read as a class, beside {others}. {remedy}")
    single = [name for name, count in zip(names, counts, strict=True) if count == 1]
    if not single or samples < FEW:
        return remarks
    amounts = all(name.lstrip("-").isdecimal() for name in names)
    hint = " Where these numbers are amounts, data.task=regression predicts them." if amounts else ""
    return remarks.warned(f"{where}: {len(single)} of {classes} classes have a single sample: {_listed(single)}.{hint}")


def _no_label(names: Sequence[str]) -> list[str]:
    """The labels that may mean that there is none: texts such as ?, and a -1 or 255 beside 0..K-1 or 1..K."""
    texts = [name for name in names if name.lower() in NONE]
    numbers = [int(name) for name in names if name.lstrip("-").isdecimal()]
    if texts or len(numbers) < len(names) or len(numbers) < 3:
        return texts
    for odd in (numbers[0], numbers[-1]):
        rest = [number for number in numbers if number != odd]
        counted = rest[0] in (0, 1) and rest == list(range(rest[0], rest[0] + len(rest)))
        if counted and ((odd < 0 and len(rest) > 2) or (odd == 255 and rest[-1] < 254)):
            return [str(odd)]
    return []


def _alike(names: Sequence[str]) -> list[str]:
    """Two labels that differ by case, by a mark at the end or by leading zeros alone; none where no two do.

    Single letters of either case are different labels.
    """
    first: dict[str, str] = {}
    for name in names:
        bare = name.rstrip(" .,;:") or name
        key = bare.lower() if len(bare) > 1 else bare
        key = key.lstrip("0") or "0" if key.isdecimal() else key
        if key in first:
            return [first[key], name]
        first[key] = name
    return []


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
