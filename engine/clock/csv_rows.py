"""Rows of the CSV files that the clock reads, with their line numbers, for errors that name them."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from strata.engine.errors import DataError


def read_rows(
    key: str, path: str, required: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells by column of each line below the header that is not empty.

    Args:
        key: of the setting that names the file.
        path: of the file.
        required: columns that it must have.
        optional: columns that it may have.

    Raises:
        DataError: with the line, what it holds and what was expected.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, skipinitialspace=True)
            header = [name.strip() for name in next(reader, [])]
            _check_header(path, header, required, optional)
            for cells in reader:
                if len(cells) not in (0, len(header)):
                    raise DataError(
                        f"{path}, line {reader.line_num}: expected {len(header)} cells ({', '.join(header)}), "
                        f"found {len(cells)}."
                    )
                if cells:
                    yield reader.line_num, dict(zip(header, (cell.strip() for cell in cells), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{key}={path}: cannot be read: {error}.") from None


def _check_header(path: str, header: Sequence[str], required: Sequence[str], optional: Sequence[str]) -> None:
    missing = [name for name in required if name not in header]
    wrong = [name for name in header if name not in (*required, *optional) or header.count(name) > 1]
    if missing or wrong:
        found = "unknown or repeated: " + ", ".join(wrong) if wrong else "missing: " + ", ".join(missing)
        more = f", and optionally {', '.join(optional)}" if optional else ""
        raise DataError(f"{path}, line 1: expected the columns {', '.join(required)}{more}; {found}.")


def read_client(text: str) -> int:
    """The id of a client that a cell holds.

    Raises:
        ValueError: saying what it holds and what was expected.
    """
    try:
        client = int(text)
    except ValueError:
        client = -1
    if client < 0:
        raise ValueError(f"client is {text!r}, expected a whole number ≥ 0")
    return client
