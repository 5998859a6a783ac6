"""Readers of tables (csv, tsv, parquet, jsonl) and of the UCR archive's series.

# N rows, F features
"""

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from strata.engine.data.config import DataConfig
from strata.engine.data.folders import files
from strata.engine.data.remarks import Remarks
from strata.engine.data.sources.arrays import channels_first
from strata.engine.data.sources.columns import described, encode_column, require_values, without_leaks
from strata.engine.data.sources.delimited import counted, encoding_of, is_number, read_delimited
from strata.engine.data.sources.raw import TABLE_SUFFIXES, Raw, client_names, distinct_keys, split_flags
from strata.engine.data.sources.text import RESERVED, encode, next_tokens, said_of_words, words_of
from strata.engine.errors import DataError


def split_files(path: Path, suffixes: Sequence[str]) -> tuple[Path, Path | None]:
    """Return the training file and, where there is one, the test file of a set.

    A folder holds one file, or two whose names end in ``train`` and ``test``; a file ``..._TRAIN.tsv`` brings the
    ``..._TEST.tsv`` beside it.

    Raises:
        DataError: if a folder holds no such file, or several that do not say what they are.
    """
    if path.is_file():
        train, test = path, path.with_name(_test_name(path))
        return train, test if test != train and test.is_file() else None
    found = [file for file in files(path) if file.suffix.lower() in suffixes]
    trains = [file for file in found if _test_name(file) != file.name] if len(found) > 1 else found
    if len(trains) != 1:
        listed = ", ".join(file.name for file in found[:6]) or "nothing"
        raise DataError(
            f"{path}: expected one {suffixes[0]} file, or one that ends in train and one that ends in test; found "
            f"{listed}. Name the file in data.name, e.g. {path / (found[0].name if found else 'train' + suffixes[0])}."
        )
    return split_files(trains[0], suffixes)


def _test_name(path: Path) -> str:
    """Return the name that the test file beside a training file has; the same name if it is not a training file."""
    match = re.fullmatch(r"(?:(.*)([_.-]))?(train)", path.stem, re.I)
    if match is None:
        return path.name
    word = {"TRAIN": "TEST", "Train": "Test"}.get(match[3], "test")
    return f"{match[1] or ''}{match[2] or ''}{word}{path.suffix}"


def is_series(path: Path) -> bool:
    """Whether a .tsv file is one of the UCR archive: its first line is no header, but holds two or more numbers."""
    with path.open(encoding=encoding_of(path), errors="replace") as file:
        fields = file.readline().strip().split("\t")
    return len(fields) > 1 and all(map(is_number, fields)) and not counted(fields)


def read_table(path: Path, kind: str, config: DataConfig) -> Raw:
    """Read a csv, tsv, parquet or jsonl set; see :func:`from_frame`. A .tsv without header is read as UCR series.

    Raises:
        DataError: see :func:`split_files` and :func:`from_frame`.
    """
    train, test = split_files(path, TABLE_SUFFIXES[kind])
    if kind == "tsv" and config.header == "auto" and is_series(train):
        return read_series(train, test)
    read = [read_frame(file, kind, config) for file in (train, test) if file is not None]
    frames = [frame for frame, _ in read]
    if len(frames) == 2 and list(frames[0].columns) != list(frames[1].columns):
        raise DataError(f"{train} and {test} have different columns: {_difference(*frames)}.")
    flags = split_flags(len(frames[0]), sum(map(len, frames[1:])))
    remarks = sum((said for _, said in read), _not_read(path, [train, test], kind))
    frame = pd.concat(frames, ignore_index=True)
    if kind in ("csv", "tsv"):
        found = [column for column in target_names(list(frame.columns), config) if column in frame.columns]
        frame = frame.assign(**{column: _as_numbers(frame[column]) for column in found})
    return from_frame(frame, flags, config, str(path), remarks=remarks)


def _not_read(path: Path, taken: Sequence[Path | None], kind: str) -> Remarks:
    """A caution where a folder holds more tables than were taken."""
    found = files(path) if path.is_dir() else []
    left = [file.name for file in found if file.suffix.lower() in TABLE_SUFFIXES[kind] and file not in taken]
    return Remarks().warned(f"{path}: {', '.join(left)} is not read.") if left else Remarks()


def _as_numbers(column: pd.Series) -> pd.Series:
    """Texts of a column as numbers, where all are; texts such as 01 and 1 would be the same number, and stay."""
    texts = column.dropna().unique()
    if not len(texts) or not all(isinstance(text, str) and is_number(text) for text in texts):
        return column
    padded = any(re.match(r"[-+]?0\d", text.strip()) for text in texts)
    numbers = pd.to_numeric(column)
    return column if padded and numbers.nunique() < len(texts) else numbers


def _difference(first: pd.DataFrame, second: pd.DataFrame) -> str:
    differing = sorted(set(map(str, first.columns)) ^ set(map(str, second.columns)))
    return ", ".join(differing) or "the same names in another order"


def read_frame(path: Path, kind: str, config: DataConfig) -> tuple[pd.DataFrame, Remarks]:
    """Read one file as a pandas frame, and what to say of it; ``kind`` is csv, tsv, parquet or jsonl.

    Raises:
        DataError: if it cannot be parsed.
    """
    try:
        if kind == "parquet":
            return pd.read_parquet(path), Remarks()
        if kind == "jsonl":
            return _read_jsonl(path), Remarks()
        return read_delimited(path, kind, config)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not in UTF-8 ({error}). Save it as UTF-8.") from error
    except (ValueError, OSError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as {kind} ({error}). Check the file, or set data.format.") from error


def _read_jsonl(path: Path) -> pd.DataFrame:
    """Read one JSON object a line. Not pandas.read_json, which guesses dates and numbers from names and texts."""
    with path.open(encoding=encoding_of(path)) as file:
        rows = [json.loads(line, object_pairs_hook=distinct_keys) for line in file if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError('every line must be an object such as {"text": ..., "label": ...}')
    return pd.DataFrame(rows)


def read_series(train: Path, test: Path | None) -> Raw:
    """Series of the UCR archive as float32 ``(N, 1, length)``: tab-separated, column 0 the class, no header.

    Raises:
        DataError: if a value is missing (series of unequal length) or the two files differ in length.
    """
    parts = []
    for file in (train, test):
        if file is None:
            continue
        try:
            parts.append(pd.read_csv(file, sep="\t", header=None, dtype=np.float64).to_numpy())
        except ValueError as error:
            raise DataError(f"{file} cannot be read as series of numbers ({error}).") from error
    if len({part.shape[1] for part in parts}) > 1:
        raise DataError(f"{train} has series of length {parts[0].shape[1] - 1}, {test} of {parts[1].shape[1] - 1}.")
    values = np.concatenate(parts)
    if np.isnan(values).any():
        raise DataError(
            f"{train}: {int(np.isnan(values).any(axis=1).sum())} of {len(values)} series have missing values or are "
            "shorter than the rest. Fill or pad them first."
        )
    return Raw(
        x=values[:, None, 1:].astype(np.float32),
        labels=values[:, 0],
        test=split_flags(len(parts[0]), sum(map(len, parts[1:]))),
    )


def from_frame(
    frame: pd.DataFrame,
    test: NDArray[np.bool_] | None,
    config: DataConfig,
    where: str,
    names: Sequence[str] = (),
    remarks: Remarks | None = None,
) -> Raw:
    """Turn a table into inputs ``(N, F)`` float32.

    Numeric columns are standardised by the mean and deviation of the training rows (of all rows where there is no
    published split), a missing number becomes the mean; columns of text become one 0/1 feature a value, and a missing
    one is a value of its own. A single input column of number lists of one length is taken as it is. With ``data.text``
    that column is the only input, as token ids ``(N, data.length)`` int64; its vocabulary is that of the training rows.

    Args:
        frame: the table.
        test: True for rows of the published test split ``(N,)``, or None.
        config: names the target, input and client columns.
        where: the source, for errors.
        names: class names, if the target column holds ``0..K-1`` already; of several columns those are the names.
        remarks: what was said of the table so far.

    Raises:
        DataError: naming the column that is not there, holds free text, or is of a kind that has no encoding.
    """
    remarks = remarks or Remarks()
    frame = frame.set_axis(columns := [str(column) for column in frame.columns], axis=1)
    targets = target_columns(columns, config, where, hint := "".join(f" {caution}" for caution in remarks.cautions))
    require_values(frame, targets, config.client_column, where)
    train = np.ones(len(frame), bool) if test is None else ~test
    client, said = client_names(frame[config.client_column].to_numpy(object) if config.client_column else None, where)
    remarks += said
    inputs, vocabulary = frame[input_columns(columns, config, where, hint)], 0
    x: NDArray[np.generic]
    vectors = not config.text and _holds_lists(inputs)
    if config.text:
        if not targets:
            texts = _texts(inputs[config.text], where)
            return next_tokens(texts, words_of(texts, train, config, where), (test, client), config, where, remarks)
        x, vocabulary, said = _token_ids(inputs[config.text], train, config, where)
        remarks += said
    elif vectors:
        x, said = channels_first(_vectors(inputs.iloc[:, 0], where), config.layout)
        remarks += said
    else:
        if not config.inputs:
            inputs, said = without_leaks(inputs, [frame[column] for column in targets], train)
            remarks += said
        x, remarks = _features(inputs, train, where, remarks)
    return Raw(
        x=x,
        labels=_labels(frame, targets, where),
        test=test,
        natural=client,
        names=names if len(targets) == 1 else targets,
        vocabulary=vocabulary,
        ready=not (config.text or vectors),
        remarks=remarks,
    )


def _features(
    inputs: pd.DataFrame, train: NDArray[np.bool_], where: str, remarks: Remarks
) -> tuple[NDArray[np.generic], Remarks]:
    """The columns of a table as inputs ``(N, F)``, and what is to be said of them after what was said before."""
    columns = {str(column): encode_column(inputs[column], train, where) for column in inputs.columns}
    remarks = sum((one.remarks for one in columns.values()), remarks) + described(columns)
    return np.concatenate([one.block for one in columns.values()], axis=1), remarks


def _labels(frame: pd.DataFrame, targets: list[str], where: str) -> NDArray[np.generic]:
    """The target as it stands in the table ``(N,)``; several columns as numbers ``(N, D)``."""
    if len(targets) == 1:
        return frame[targets[0]].to_numpy()
    try:
        return frame[targets].to_numpy(dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{where}: of several columns of a target each holds numbers: {error}. Set data.target to others or one."
        ) from None


def target_names(columns: Sequence[str], config: DataConfig) -> list[str]:
    """The columns that ``data.target`` names, be they there or not; none where the next token is the target."""
    if config.task == "next_token" and config.text:
        return []
    listed = [name.strip() for name in config.target.split(",") if name.strip()]
    return [config.target] if config.target in columns or len(listed) < 2 else listed


def target_columns(columns: Sequence[str], config: DataConfig, where: str, hint: str = "") -> list[str]:
    """The columns of the target, see :func:`target_names`; ``hint`` is added to what is said where one is missing.

    Raises:
        DataError: where one is not there, or the client's is not.
    """
    targets = target_names(columns, config)
    named = [*(("target", name) for name in targets), ("client_column", config.client_column)]
    for key, column in named:
        if (column or key == "target") and column not in columns:
            if len(columns) == 1:
                raise DataError(f"{where} has no column {column!r}: {columns[0]!r} is its only one.{hint}")
            raise DataError(f"{where} has no column {column!r}. Set data.{key} to one of: {', '.join(columns)}.{hint}")
    return targets


def input_columns(columns: Sequence[str], config: DataConfig, where: str, hint: str = "") -> list[str]:
    """Return the input columns: that of ``data.text``, those that ``data.inputs`` lists, or all but target and client.

    ``hint`` is added to what is said where none is left.

    Raises:
        DataError: if one is not there, is the target, or none is left; or if text is to have others beside it.
    """
    if config.text:
        if config.text not in columns:
            raise DataError(f"{where} has no column {config.text!r}. Set data.text to one of: {', '.join(columns)}.")
        if config.inputs or config.text in target_names(columns, config):
            raise DataError(
                f"data.text={config.text}: text is the only input a set can have, and not its target. Leave "
                f"data.inputs empty (it is {config.inputs!r}) and name the class in data.target (it is "
                f"{config.target!r})."
            )
        return [config.text]
    targets = target_names(columns, config)
    reserved = {*targets, config.client_column}
    asked = [name.strip() for name in config.inputs.split(",") if name.strip()]
    unknown = [name for name in asked if name not in columns or name in targets]
    chosen = asked or [name for name in columns if name not in reserved]
    left = ", ".join(name for name in columns if name not in reserved)
    if not (left if unknown else chosen):
        taken = ", ".join(name for name in columns if name in reserved)
        raise DataError(f"{where}: no column is left to be an input beside {taken} (target, client).{hint}")
    if unknown:
        raise DataError(f"{where}: {', '.join(unknown)} cannot be an input. Set data.inputs to some of: {left}.")
    return chosen


def _token_ids(
    column: pd.Series, train: NDArray[np.bool_], config: DataConfig, where: str
) -> tuple[NDArray[np.int64], int, Remarks]:
    """Return a column of texts as ids ``(N, L)``, the number of ids, and what to say of the words."""
    texts = _texts(column, where)
    ids = words_of(texts, train, config, where)
    x = encode(texts, ids, config.length)
    return x, len(ids) + RESERVED, said_of_words(texts, ids, x)


def _texts(column: pd.Series, where: str) -> list[str]:
    """A column of texts; a missing text is one without words."""
    texts: list[str] = column.astype(object).where(column.notna(), "").tolist()
    other = next((text for text in texts if not isinstance(text, str)), None)
    if other is not None:
        raise DataError(
            f"{where}: column {column.name!r} holds {type(other).__name__} values, expected text. Set data.text to a "
            "column of text, or leave it empty to have numbers and categories as inputs."
        )
    return texts


def _holds_lists(frame: pd.DataFrame) -> bool:
    """Whether the only column of a table holds lists of numbers."""
    return frame.shape[1] == 1 and len(frame) > 0 and isinstance(frame.iloc[0, 0], list | tuple | np.ndarray)


def _vectors(column: pd.Series, where: str) -> NDArray[np.generic]:
    """Return a column of lists, maybe of lists, as ``(N, ...)``."""
    try:
        return np.stack([np.asarray(_unboxed(value)) for value in column])
    except ValueError as error:
        raise DataError(f"{where}: column {column.name!r} holds lists of different lengths. Pad them.") from error


def _unboxed(value: object) -> object:
    """An entry of a table, of whose lists in lists parquet makes arrays of arrays."""
    boxed = isinstance(value, np.ndarray) and value.dtype == object
    return [_unboxed(inner) for inner in value] if boxed else value  # type: ignore[attr-defined]
