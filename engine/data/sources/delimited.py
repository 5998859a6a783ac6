"""Tables of text, a row a line: how a file separates fields and writes numbers, and whether it names its columns.

# N rows, F fields a row
"""

import csv
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from strata.engine.data.config import DataConfig
from strata.engine.data.remarks import Remarks
from strata.engine.errors import DataError

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
MARKS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
FIRST_LINES = 1000
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,(\d+)")
_DECIMAL_POINT = re.compile(r"[-+]?\d*\.\d+")

Fields = Sequence[str]


@dataclass(frozen=True)
class Layout:
    """How a file writes a table.

    Attributes:
        encoding: of its characters.
        separator: between the fields of a line.
        header: whether the first line names the columns.
        decimal: the mark before a number's fraction.
        names: the F names of columns.
        extra: fields that lines have beyond the names: ``""``, ``last`` (an empty one) or ``first`` (a row's name).
    """

    encoding: str
    separator: str
    header: bool
    decimal: str
    names: Sequence[str]
    extra: str


def encoding_of(path: Path) -> str:
    """The encoding that the first bytes of a file of text tell of, UTF-8 where they tell of none.

    Raises:
        DataError: if the file holds zero bytes, so that it is no text, or of an encoding that is not marked.
    """
    with path.open("rb") as file:
        start = file.read(4096)
    marked = next((encoding for mark, encoding in MARKS.items() if start.startswith(mark)), "")
    if not marked and b"\0" in start:
        raise DataError(f"{path} is no text in UTF-8: it holds zero bytes. Save it as UTF-8.")
    return marked or ("utf-8-sig" if start.startswith(b"\xef\xbb\xbf") else "utf-8")


def is_number(text: str) -> bool:
    """Whether a field is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def counted(fields: Fields) -> bool:
    """Whether the numbers among some fields are 0, 1, 2, ... or 1, 2, 3, ..., as names of columns are."""
    numbers = [field for field in fields if is_number(field)]
    return any(numbers == [str(first + at) for at in range(len(numbers))] for first in (0, 1))


def read_delimited(path: Path, kind: str, config: DataConfig) -> tuple[pd.DataFrame, Remarks]:
    """Read a csv or tsv file, however it separates fields; ``data.header`` says whether its first line names columns.

    The target and client columns are texts, as they stand.

    Raises:
        DataError: if lines have more fields than there are names, or a column that a setting names is there twice.
        ValueError: if the file cannot be parsed.
    """
    layout, remarks = _layout(path, kind, config)
    listed = [name.strip() for name in config.inputs.split(",")]
    texts = {name for name in (config.target, config.client_column) if name and name not in listed}
    frame = pd.read_csv(
        path,
        sep=layout.separator,
        encoding=layout.encoding,
        decimal=layout.decimal,
        header=0 if layout.header else None,
        names=_columns(layout),
        dtype=dict.fromkeys(texts & set(layout.names), str),
        skipinitialspace=True,
        low_memory=False,
    )
    remarks += _repeated(layout.names, list(map(str, frame.columns)), config, path)
    empty = [name for name in frame.columns if str(name).startswith("Unnamed: ") and frame[name].isna().all()]
    if layout.extra == "last" and not frame.iloc[:, -1].isna().all():
        raise DataError(f"{path}: some lines have {len(layout.names) + 1} fields for {len(layout.names)} columns.")
    if empty and not layout.extra:
        remarks = remarks.noted(f"{path}: {len(empty)} empty columns without a name are left out")
    return frame.drop(columns=empty), remarks


def _repeated(names: Sequence[str], columns: Sequence[str], config: DataConfig, path: Path) -> Remarks:
    """What to say of names that several columns have; ``columns`` is how pandas calls these.

    Raises:
        DataError: if a setting names one of them, for it is not clear which is meant.
    """
    listed = {name.strip() for name in f"{config.target},{config.inputs}".split(",")}
    settings = {config.target, config.client_column, config.text, *listed}
    remarks = Remarks()
    for name, count in Counter(names).items():
        if not name or count < 2:  # those without a name are said elsewhere
            continue
        if name in settings:
            raise DataError(f"{path}: {count} columns are called {name!r}. Give each a name of its own.")
        later = [column for own, column in zip(names, columns, strict=False) if own == name != column]
        remarks = remarks.warned(f"{path}: {count} columns are called {name!r}; the later are read as {_few(later)}.")
    return remarks


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _columns(layout: Layout) -> list[str] | None:
    """Names for pandas; None where those of the file's first line stand for the columns, or for all but the first."""
    if layout.extra == "last":
        return [*layout.names, f"Unnamed: {len(layout.names)}"]
    return None if layout.header else list(layout.names)


def _layout(path: Path, kind: str, config: DataConfig) -> tuple[Layout, Remarks]:
    encoding = encoding_of(path)
    with path.open(encoding=encoding, newline="") as file:
        lines = [line for line in itertools.islice(file, FIRST_LINES) if line.strip()]
    if lines and (told := re.fullmatch(r"sep=(.)", lines[0].strip(), re.I)):
        raise DataError(f"{path}: its first line, {told[0]}, is one for spreadsheets, and names no columns. Remove it.")
    csv.field_size_limit(2**31 - 1)  # texts may be long
    usual = "\t" if kind == "tsv" else ","
    separator = _separator(lines, usual)
    rows = list(csv.reader(lines, delimiter=separator, skipinitialspace=True))
    remarks = Remarks()
    if encoding.startswith("utf-16") or encoding.startswith("utf-32"):
        remarks = remarks.noted(f"{path} is read as {encoding.upper()}")
    if separator != usual:
        remarks = remarks.noted(f"{path}: fields are separated by {SEPARATORS[separator]}")
    decimal = _decimal(rows[1:], separator)
    if decimal == ",":
        remarks = remarks.noted(f"{path}: numbers have a decimal comma")
    header, said = _has_header(rows, config.header, path)
    names = rows[0] if header and rows else [str(number) for number in range(len(rows[0]) if rows else 0)]
    extra, also = _extra(rows[1:], len(names), path) if header else ("", Remarks())
    if len(names) == 1 and names[0] != config.text:
        remarks = remarks.warned(
            f"{path}: each line is one field, such as {rows[0][0][:60]!r}. Columns are separated by "
            f"{', '.join(SEPARATORS.values())}; replace what separates them by one of these."
        )
    return Layout(encoding, separator, header, decimal, names, extra), remarks + said + also + _unnamed(
        rows, names, path
    )


def _separator(lines: Sequence[str], usual: str) -> str:
    """The usual separator, or another one that splits all first lines alike where the usual one does not."""

    def widths(separator: str) -> list[int]:
        return [len(row) for row in csv.reader(lines[:50], delimiter=separator, skipinitialspace=True)]

    by = {separator: widths(separator) for separator in SEPARATORS}
    if not lines or (by[usual][0] > 1 and len(set(by[usual])) == 1):
        return usual
    alike = [separator for separator, counts in by.items() if counts[0] > 1 and len(set(counts)) == 1]
    best = max(alike, key=lambda separator: by[separator][0], default=usual)
    return best if by[best][0] > by[usual][0] else usual


def _decimal(rows: Sequence[Fields], separator: str) -> str:
    """A comma where numbers have one, not always before three digits as thousands have, and none has a point."""
    fields = [field for row in rows for field in row]
    commas = [match for field in fields if separator != "," and (match := _DECIMAL_COMMA.fullmatch(field))]
    thousands = all(len(match[1]) == 3 for match in commas)
    return "." if thousands or any(_DECIMAL_POINT.fullmatch(field) for field in fields) else ","


def _has_header(rows: Sequence[Fields], asked: str, path: Path) -> tuple[bool, Remarks]:
    """Whether the first line names the columns, and what to say of it."""
    if asked != "auto" or not rows:
        return asked != "no", Remarks()
    first = rows[0]
    numbers = [field for field in first if is_number(field)]
    texts = [at for at, field in enumerate(first) if not is_number(field)]
    repeated = len(rows) > 2 and all(_again(first[at], at, rows) for at in texts)
    looks = repeated and bool(texts) if counted(first) else repeated or not texts
    if looks:
        said = f"{path} has no header: its columns are called 0 to {len(first) - 1}. data.header=yes says it has one."
        return False, Remarks().warned(said)
    if counted(first):
        return True, Remarks()
    said = (
        f"{path}: names of columns such as {numbers[0]!r} look like values. data.header=no if its first line is a row."
    )
    return True, Remarks().warned(said)


def _again(field: str, at: int, rows: Sequence[Fields]) -> bool:
    """Whether a field of the first line is there in a later line as well, in its column."""
    return any(len(row) > at and row[at].strip() == field.strip() for row in rows[1:])


def _unnamed(rows: Sequence[Fields], names: Sequence[str], path: Path) -> Remarks:
    """What to say where the first line names some columns not that hold something: a title does not, nor pandas."""
    blank = [at for at, name in enumerate(names) if not name.strip()]
    held = [at for at in blank if any(len(row) > at and row[at].strip() for row in rows[1:])]
    if not held:
        return Remarks()
    said = f"{path}: columns that the first line does not name are called {_few([f'Unnamed: {at}' for at in held])}"
    if held == [0]:  # of names of rows, as pandas writes them
        return Remarks().noted(said)
    return Remarks().warned(f"{said}. Lines before the header have to go.")


def _extra(rows: Sequence[Fields], names: int, path: Path) -> tuple[str, Remarks]:
    """What lines have beyond the names of columns: nothing, an empty field, or a row's name, as R writes it.

    Raises:
        DataError: if it is something else.
    """
    widths = {len(row) for row in rows}
    if not widths or max(widths) <= names:
        return "", Remarks()
    if widths == {names + 1} and all(not row[-1].strip() for row in rows):
        return "last", Remarks().noted(f"{path}: each line ends in a separator, after which there is nothing")
    first = [row[0] for row in rows]
    if widths == {names + 1} and len(set(first)) == len(first) and all(row[-1].strip() for row in rows):
        return "first", Remarks().noted(f"{path}: the first field of each line has no name and is left out")
    raise DataError(
        f"{path}: the header names {names} columns, and lines have up to {max(widths)} fields. Quote fields that hold "
        "the separator, and give every line as many fields as there are names. Lines before the header have to go."
    )
