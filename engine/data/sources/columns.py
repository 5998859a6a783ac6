"""Columns of a table as inputs, and columns that are none: row numbers, and the target once more.

# N rows
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from strata.engine.data.remarks import Remarks
from strata.engine.errors import DataError

MAX_CATEGORIES = 256
MISSING = "(missing)"

ABSENT = frozenset({"?", "-", "--", "", ".", "na", "n/a", "nan", "none", "null", "missing"})
"""Texts that stand for a missing number among numbers, in lower case."""

MANY_ROWS = 20
"""From how many rows on a column that counts them is one by chance no more."""

SHOWN = 8
"""Names of columns that a line lists at most."""

_MARKED = re.compile(
    r"(?P<sign>[-+]?)(?P<before>[$€£¥]?)\s*"
    r"(?P<number>(\d{1,3}(,\d{3})+|\d+)(\.\d*)?|\.\d+)(e(?P<power>[-+]?\d+))?\s*(?P<after>[%$€£¥]?)",
    re.I,
)
_ROW_NAME = re.compile(r"(unnamed: \d+|(.*[_ .-])?(id|index|idx|uuid|rownames|row_?(id|num|number|index)))", re.I)
_CAMEL_ID = re.compile(r".*[a-z](Id|ID)")


@dataclass(frozen=True)
class Encoded:
    """A column as inputs.

    Attributes:
        block: ``(N, 1)`` standardised numbers, or ``(N, values)`` of 0 and 1.
        missing: how many of the N numbers are missing, so that they became the mean.
        categories: how many values a column of texts has; 0: it holds numbers.
        remarks: what to say of it.
    """

    block: NDArray[np.float32]
    missing: int = 0
    categories: int = 0
    remarks: Remarks = field(default_factory=Remarks)


def encode_column(column: pd.Series, train: NDArray[np.bool_], where: str) -> Encoded:
    """One column as inputs.

    Texts that are numbers but for marks (``?`` for a missing one, %, a currency, commas between thousands) are numbers.

    Args:
        column: N values.
        train: True for the rows by which numbers are scaled ``(N,)``.
        where: the source, for errors.

    Raises:
        DataError: for values that have no encoding, and for free text.
    """
    if pd.api.types.is_numeric_dtype(column):
        numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
        return _standardised(numbers, train, f"{where}: {column.name!r}", Remarks())
    filled = column.astype(object).where(column.notna(), MISSING)
    strange = [value for value in filled if not isinstance(value, str | bool | int | float)]
    if strange:
        raise DataError(
            f"{where}: column {column.name!r} holds {type(strange[0]).__name__} values, which have no encoding. "
            "Leave it out by listing the other columns in data.inputs."
        )
    text = filled.astype(str).to_numpy(dtype=np.str_)
    values = np.unique(text)
    marked, marks = _marked_numbers(values)
    if marks:
        said = f"column {column.name!r} is read as numbers, its marks ({' '.join(marks)}) aside"
        numbers = marked[np.searchsorted(values, text)]
        return _standardised(numbers, train, f"{where}: {column.name!r}", Remarks().noted(said))
    if len(values) > MAX_CATEGORIES or len(values) > max(20, len(text) // 2):
        raise DataError(
            f"{where}: column {column.name!r} has {len(values)} distinct texts in {len(text)} rows, so it is free text "
            f"(or an identifier), not a category. Set data.text={column.name} to learn from it as text, or leave it "
            "out by listing the other columns in data.inputs."
        )
    block = np.asarray(text[:, None] == values[None, :], np.float32)
    return Encoded(block, categories=len(values), remarks=_categories(column.name, values))


def described(columns: Mapping[str, Encoded]) -> Remarks:
    """How the columns of a table became inputs, in a line."""
    categories = [f"{name} ({one.categories})" for name, one in columns.items() if one.categories]
    missing = [f"{name} ({one.missing})" for name, one in columns.items() if one.missing]
    parts = [
        "numbers have mean 0 and deviation 1 over the training rows" if len(categories) < len(columns) else "",
        f"missing ones are the mean: {_listed(missing)}" if missing else "",
        f"each value of a category is an input of 0 or 1: {_listed(categories)}" if categories else "",
    ]
    width = sum(one.block.shape[1] for one in columns.values())
    return Remarks().noted(f"inputs: {width}, of {len(columns)} columns; {'; '.join(filter(None, parts))}")


def _categories(name: object, values: NDArray[np.str_]) -> Remarks:
    """A caution where most values of a column of texts begin as numbers do, though some are none."""
    digits = [str(value) for value in values if re.match(r"[-+$€£¥<>=]?\s*\d", value)]
    others = [str(value) for value in values if value not in digits and value != MISSING]
    numbers = [value for value in digits if _MARKED.fullmatch(value)]
    if len(digits) < 3 or len(digits) < 2 * len(others) or len(numbers) == len(values):
        return Remarks()
    odd = [value for value in (*digits, *others) if value not in numbers]
    shown = ", ".join(map(repr, (odd or digits)[:3]))
    return Remarks().warned(
        f"column {name!r} is read as {len(values)} categories, not as numbers, for it holds {shown}. Write numbers "
        "alone if it is a number."
    )


def _marked_numbers(values: NDArray[np.str_]) -> tuple[NDArray[np.float64], list[str]]:
    """Distinct texts as numbers, and the marks that were left out of them; no marks where they are no such numbers.

    A percent sign has to be with all or none of them, there may be one currency, and a number does not begin with a
    zero before another digit, or before a comma, which is then no mark of thousands.
    """
    texts = [str(value).strip() for value in values]
    absent = [text.lower() in ABSENT or text == MISSING for text in texts]
    found = [None if gone else _MARKED.fullmatch(text) for text, gone in zip(texts, absent, strict=True)]
    matches = [match for match in found if match]
    if len(matches) + sum(absent) < len(texts) or not matches:
        return np.zeros(0), []
    money = {mark for match in matches for mark in (match["before"], match["after"]) if mark and mark != "%"}
    percent = {match["after"] == "%" for match in matches}
    coded = any(re.match(r"0[\d,]", match["number"]) for match in matches)
    if len(money) > 1 or len(percent) > 1 or coded:
        return np.zeros(0), []
    marks = {text for text, gone in zip(texts, absent, strict=True) if gone and text != MISSING}
    marks |= money | ({"%"} if True in percent else set())
    marks |= {","} if any("," in match["number"] for match in matches) else set()
    return np.array([np.nan if match is None else _value(match) for match in found]), sorted(marks)


def _value(match: re.Match[str]) -> float:
    return float(f"{match['sign']}{match['number'].replace(',', '')}e{match['power'] or 0}")


def _standardised(values: NDArray[np.float64], train: NDArray[np.bool_], where: str, remarks: Remarks) -> Encoded:
    """Zero mean and unit deviation over the training rows; a constant column becomes zeros."""
    known = values[train & ~np.isnan(values)]
    if not len(known) or np.isinf(values).any():
        raise DataError(f"{where} has {'infinite values' if len(known) else 'no value in the training rows'}.")
    deviation = known.std()
    scaled = (values - known.mean()) / (deviation if deviation > 0 else 1.0)
    block = np.asarray(np.nan_to_num(scaled, nan=0.0), np.float32)[:, None]
    return Encoded(block, missing=int(np.isnan(values).sum()), remarks=remarks)


def require_values(frame: pd.DataFrame, targets: Sequence[str], client: str, where: str) -> None:
    """Refuse targets that some rows lack, and such that hold no plain values, as of JSON may be; clients' names too.

    Args:
        frame: N rows.
        targets: columns of the target.
        client: the column of clients' names; empty: there is none.
        where: the source, for errors.

    Raises:
        DataError: naming the column.
    """
    for column in [*targets, client] if client else targets:
        strange = _unhashable(frame[column])
        if strange:
            raise DataError(
                f"{where}: column {column!r} holds a {type(strange[0]).__name__} in {len(strange)} of {len(frame)} "
                "rows; expected a number or a text in each."
            )
    for column in targets:
        if missing := int(frame[column].isna().sum()):
            raise DataError(f"{where}: column {column!r} lacks {missing} of {len(frame)} labels. Remove those rows.")


def without_leaks(
    frame: pd.DataFrame, targets: Sequence[pd.Series], train: NDArray[np.bool_]
) -> tuple[pd.DataFrame, Remarks]:
    """The inputs without columns that only number the rows, or are a target once more.

    A column that says the same as the target in other words, or may number rows that were mixed, stays, with a caution.
    All columns stay where none would be left.

    Args:
        frame: the inputs, N rows.
        targets: columns of the target, N values each.
        train: True for training rows ``(N,)``; test rows may be numbered anew.
    """
    remarks, dropped = Remarks(), []
    for name in frame.columns:
        column, text = frame[name], str(name)
        if _unhashable(column):
            continue
        if _numbers_rows(column, text, train):
            dropped.append(name)
            said = f"column {text!r} is left out, for it numbers the rows. data.inputs lists columns to take it in."
            named = _ROW_NAME.fullmatch(text) or _CAMEL_ID.fullmatch(text)
            remarks = remarks.noted(said) if named else remarks.warned(said)
        elif any(_is_same(column, target) for target in targets):
            dropped.append(name)
            remarks = remarks.warned(f"column {text!r} is left out, for it is the target once more.")
        elif len(column) >= MANY_ROWS and any(_tells(column, target) for target in targets):
            remarks = remarks.warned(
                f"column {text!r} says the same as the target, one to one. If it is the target in other words, leave "
                "it out by listing the other columns in data.inputs."
            )
        elif _numbers_mixed_rows(column):
            remarks = remarks.warned(
                f"column {text!r} holds each whole number from {column.min()} to {column.max()} once, as numbers of "
                "rows do. If that is what they are, leave it out by listing the other columns in data.inputs."
            )
    if len(dropped) == frame.shape[1]:
        return frame, Remarks().warned(f"the only inputs, {_listed(dropped)}, number the rows or are the target.")
    return frame.drop(columns=dropped), remarks


def _unhashable(column: pd.Series) -> list[object]:
    """Those values of a column that are lists or objects."""
    return [value for value in column if not pd.api.types.is_hashable(value)] if column.dtype == object else []


def _numbers_rows(column: pd.Series, name: str, train: NDArray[np.bool_]) -> bool:
    """Whether whole numbers count the rows of each split, or are all different under a name such as id."""
    if not pd.api.types.is_integer_dtype(column) or column.isna().any() or len(column) < 2:
        return False
    values = column.to_numpy(dtype=np.int64)
    sides = [values[side] for side in (train, ~train) if side.any()]
    if _ROW_NAME.fullmatch(name) or _CAMEL_ID.fullmatch(name):
        return all(len(np.unique(side)) == len(side) for side in sides)
    return len(values) >= MANY_ROWS and all(bool((np.diff(side) == 1).all()) for side in sides)


def _numbers_mixed_rows(column: pd.Series) -> bool:
    """Whether whole numbers without a gap are each there once, in whatever order."""
    if not pd.api.types.is_integer_dtype(column) or column.isna().any() or len(column) < MANY_ROWS:
        return False
    return bool(column.is_unique) and int(column.max()) - int(column.min()) == len(column) - 1


def _is_same(column: pd.Series, target: pd.Series) -> bool:
    return _one_to_one(column, target) and column.astype(str).to_list() == target.astype(str).to_list()


def _tells(column: pd.Series, target: pd.Series) -> bool:
    """Whether a column has one value for each class; numbers that are nearly all different tell nothing by that."""
    return 2 * target.nunique() <= len(target) and _one_to_one(column, target)


def _one_to_one(column: pd.Series, target: pd.Series) -> bool:
    """Whether a column has one value for each class, and another for every class."""
    classes = target.nunique()
    if classes < 2 or column.nunique(dropna=False) != classes:
        return False
    return len(pd.DataFrame({"a": column.to_numpy(), "b": target.to_numpy()}).drop_duplicates()) == int(classes)


def _listed(names: Sequence[object]) -> str:
    return ", ".join(map(str, names[:SHOWN])) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
