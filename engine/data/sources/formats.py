"""Local sets: which format a path is in, and reading it. Pickle is refused: loading one runs code."""

import re
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from strata.engine.data.config import DataConfig
from strata.engine.data.sources.images import (
    cifar_files,
    class_folders,
    idx_image_files,
    nearby,
    read_cifar,
    read_idx,
    read_picture_folders,
)
from strata.engine.data.sources.raw import TABLE_SUFFIXES, Raw
from strata.engine.errors import DataError

FORMATS = ("idx", "cifar", "images", "csv", "tsv", "parquet", "jsonl", "npz")
PICKLES = frozenset({".pkl", ".pickle", ".p", ".pt", ".pth", ".joblib"})
X_NAMES = ("x", "data", "images", "inputs")
Y_NAMES = ("y", "label", "labels", "target")
CLIENT_NAMES = ("client", "subject", "user", "natural")


def refuse_pickle(path: Path) -> None:
    """Refuse a file that only unpickling can read, by its suffix; any other path passes.

    Raises:
        DataError: for such a file, with the reason and the remedy.
    """
    if path.suffix.lower() in PICKLES:
        raise DataError(
            f"{path} is a pickle, and loading a pickle runs whatever code it holds, so Strata never does. "
            "Convert it to .npz (arrays X and y), parquet or jsonl."
        )


def detect(path: Path) -> str:
    """Return the format of a file or folder, one of :data:`FORMATS`.

    Raises:
        DataError: if it is a pickle, or none of the formats.
    """
    refuse_pickle(path)
    if path.is_dir():
        return _detect_folder(path)
    if idx_image_files(path):
        return "idx"
    if any(cifar_files(path)):
        return "cifar"
    kind = _kind_of_file(path)
    if kind is None:
        raise DataError(f"{path} is in no known format. Set data.format to one of: {', '.join(FORMATS)}.")
    return kind


def _kind_of_file(path: Path) -> str | None:
    """Return the format that a file's suffix says, for tables and npz."""
    suffix = path.suffix.lower()
    tables = {ending: kind for kind, endings in TABLE_SUFFIXES.items() for ending in endings}
    return "npz" if suffix == ".npz" else tables.get(suffix)


def _detect_folder(path: Path) -> str:
    if idx_image_files(path):
        return "idx"
    if any(cifar_files(path)):
        return "cifar"
    kinds = sorted({kind for file in path.iterdir() if file.is_file() and (kind := _kind_of_file(file))})
    if len(kinds) > 1:
        raise DataError(f"{path} holds files of several formats. Set data.format to one of: {', '.join(kinds)}.")
    if kinds:
        return kinds[0]
    if class_folders(path):
        return "images"
    for file in nearby(path):
        refuse_pickle(file)
        if re.fullmatch(r"data_batch_\d|test_batch|batches\.meta", file.name):
            raise DataError(
                f"{file} is of CIFAR's Python version, a pickle: loading one runs whatever code it holds. "
                "Fetch the binary version (data_batch_1.bin, ...)."
            )
    raise DataError(
        f"{path} holds nothing in a known format ({', '.join(FORMATS)}). Set data.format, or check data.root."
    )


def read_local(path: Path, config: DataConfig) -> Raw:
    """Read a file or folder in ``data.format``, or in the format that :func:`detect` finds.

    Raises:
        DataError: if the format is unknown, or the files are not what it expects.
    """
    refuse_pickle(path)
    kind = detect(path) if config.format == "auto" else config.format
    if kind not in FORMATS:
        raise DataError(f"data.format={kind!r} is unknown. Choose one of: auto, {', '.join(FORMATS)}.")
    if kind in TABLE_SUFFIXES:
        from strata.engine.data.sources.tables import read_table  # pandas, half a second that only tables need

        return read_table(path, kind, config)
    if kind == "npz":
        return read_npz(path, config)
    return {"idx": read_idx, "cifar": read_cifar, "images": read_picture_folders}[kind](path)


def read_npz(path: Path, config: DataConfig) -> Raw:
    """Read an .npz file: ``X`` ``(N, ...)``, ``y`` ``(N,)``, optionally ``client`` or ``subject``, and ``test`` flags.

    ``data.client_column`` names the client array if it is called otherwise; ``data.layout: last`` says that channels
    are the last axis of X and moves them to axis 1.

    Raises:
        DataError: if an array is not there, has the wrong length, or is a pickled object.
    """
    arrays = _npz_arrays(_npz_file(path))
    x, labels = _pick(arrays, X_NAMES, path), _pick(arrays, Y_NAMES, path)
    if config.client_column and config.client_column not in arrays:
        raise DataError(
            f"{path} has no array {config.client_column!r}. Set data.client_column to one of: {', '.join(arrays)}."
        )
    client = arrays.get(config.client_column, _first(arrays, CLIENT_NAMES))
    test = _first(arrays, ("test",))
    for name, array in (("y", labels), ("client", client), ("test", test)):
        if array is not None and array.shape != (len(x),):
            raise DataError(f"{path}: {name} has shape {array.shape}, expected ({len(x)},) as X has {len(x)} rows.")
    return Raw(
        x=np.moveaxis(x, -1, 1) if config.layout == "last" and x.ndim > 2 else x,
        labels=labels,
        test=None if test is None else test.astype(np.bool_),
        natural=None if client is None else client.astype(np.str_),
    )


def _npz_file(path: Path) -> Path:
    if path.is_file():
        return path
    files = sorted(path.glob("*.npz"))
    if len(files) != 1:
        raise DataError(f"{path} holds {len(files)} .npz files, expected one. Name the file in data.name.")
    return files[0]


def _npz_arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    try:
        # Opened here, because numpy leaves the file open where it is not an archive.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except ValueError as error:
        if "pickle" not in str(error).lower():
            raise DataError(f"{path} cannot be read as .npz ({error}).") from error
        raise DataError(
            f"{path} holds pickled objects, and loading a pickle runs whatever code it holds, so Strata never does. "
            "Save plain arrays of numbers or text instead of dtype=object."
        ) from error
    except (OSError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read as .npz ({error}).") from error


def _first(arrays: dict[str, NDArray[np.generic]], names: tuple[str, ...]) -> NDArray[np.generic] | None:
    """Return the first array whose name, in any case, is one of ``names``."""
    lowered = {name.lower(): array for name, array in arrays.items()}
    return next((lowered[name] for name in names if name in lowered), None)


def _pick(arrays: dict[str, NDArray[np.generic]], names: tuple[str, ...], path: Path) -> NDArray[np.generic]:
    found = _first(arrays, names)
    if found is None:
        raise DataError(f"{path} has no array {' or '.join(names)}; it has: {', '.join(arrays) or 'none'}.")
    return found
