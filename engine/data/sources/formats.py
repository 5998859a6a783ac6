"""Local sets: which format a path is in, and reading it. Pickle is refused: loading one runs code."""

import re
from pathlib import Path

from strata.engine.data.config import DataConfig
from strata.engine.data.folders import files, nearby, refuse_placeholder
from strata.engine.data.sources.arrays import read_npy, read_npz
from strata.engine.data.sources.images import cifar_files, idx_image_files, read_cifar, read_idx
from strata.engine.data.sources.picture_folders import class_folders, read_picture_folders
from strata.engine.data.sources.raw import TABLE_SUFFIXES, Raw
from strata.engine.errors import DataError

FORMATS = ("idx", "cifar", "images", "csv", "tsv", "parquet", "jsonl", "npz", "npy")
PICKLES = frozenset({".pkl", ".pickle", ".p", ".pt", ".pth", ".joblib"})


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
    """Return the format that a file's suffix says, for tables and arrays."""
    suffix = path.suffix.lower()
    tables = {ending: kind for kind, endings in TABLE_SUFFIXES.items() for ending in endings}
    return suffix[1:] if suffix in (".npz", ".npy") else tables.get(suffix)


def _detect_folder(path: Path) -> str:
    if idx_image_files(path):
        return "idx"
    if any(cifar_files(path)):
        return "cifar"
    kinds = sorted({kind for file in files(path) if (kind := _kind_of_file(file))})
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
    for file in nearby(path) if path.is_dir() else [path]:
        if _kind_of_file(file) or file.suffix.lower() in (".gz", ".bin"):
            refuse_placeholder(file)
    kind = detect(path) if config.format == "auto" else config.format
    if kind not in FORMATS:
        raise DataError(f"data.format={kind!r} is unknown. Choose one of: auto, {', '.join(FORMATS)}.")
    if kind in TABLE_SUFFIXES:
        from strata.engine.data.sources.tables import read_table  # pandas, half a second that only tables need

        return read_table(path, kind, config)
    if kind in ("npz", "npy"):
        return (read_npz if kind == "npz" else read_npy)(path, config)
    if kind == "images":
        return read_picture_folders(path, config)
    return (read_idx if kind == "idx" else read_cifar)(path)
