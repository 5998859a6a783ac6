"""Arrays: one .npz file, or a folder of .npy files, which stay on the disk.

# N samples
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from strata.engine.data.config import DataConfig
from strata.engine.data.folders import files
from strata.engine.data.mapped import open_mapped
from strata.engine.data.remarks import Remarks
from strata.engine.data.sources.raw import Raw, client_names, published_flags
from strata.engine.errors import DataError

X_NAMES = ("x", "data", "images", "inputs")
Y_NAMES = ("y", "label", "labels", "target")
CLIENT_NAMES = ("client", "subject", "user", "natural")

Arrays = Mapping[str, NDArray[np.generic]]


def read_npz(path: Path, config: DataConfig) -> Raw:
    """Read an .npz file: ``X`` ``(N, ...)``, ``y`` ``(N,)``, optionally ``client`` or ``subject``, and ``test`` flags.

    ``data.client_column`` names the client array if it is called otherwise; ``data.layout: last`` says that channels
    are the last axis of X and moves them to axis 1.

    Raises:
        DataError: if an array is not there, has the wrong length, or is a pickled object.
    """
    return _raw(_npz_arrays(_npz_file(path)), path, config)


def read_npy(path: Path, config: DataConfig) -> Raw:
    """Read a folder of .npy files, ``X.npy``, ``y.npy`` and so on: the arrays that :func:`read_npz` wants.

    Inputs of uint8, int64 or float32 stay on the disk, and only the rows that are trained on are read. Clients that are
    whole numbers are taken in their order, others in that of their names.

    Raises:
        DataError: if an array is not there, has the wrong length, or is a pickled object.
    """
    folder = path if path.is_dir() else path.parent
    wanted = {*X_NAMES, *Y_NAMES, *CLIENT_NAMES, "test", config.client_column.lower()}
    found = [file for file in files(folder) if file.suffix.lower() == ".npy" and file.stem.lower() in wanted]
    return _raw({file.stem: open_mapped(file) for file in found}, folder, config)


def _raw(arrays: Arrays, path: Path, config: DataConfig) -> Raw:
    x, labels = _pick(arrays, X_NAMES, path), _pick(arrays, Y_NAMES, path)
    if config.client_column and config.client_column not in arrays:
        raise DataError(
            f"{path} has no array {config.client_column!r}. Set data.client_column to one of: {', '.join(arrays)}."
        )
    if x.ndim < 2:
        raise DataError(f"{path}: X has shape {x.shape}, expected (N, ...): one input a row.")
    client = arrays.get(config.client_column, _first(arrays, CLIENT_NAMES))
    test = _first(arrays, ("test",))
    for name, array in (("y", labels), ("client", client), ("test", test)):
        if array is not None and array.shape != (len(x),):
            raise DataError(f"{path}: {name} has shape {array.shape}, expected ({len(x)},) as X has {len(x)} rows.")
    natural, remarks = (None, Remarks()) if client is None else client_names(client, str(path))
    return Raw(
        x=np.moveaxis(x, -1, 1) if config.layout == "last" and x.ndim > 2 else x,
        labels=labels,
        test=None if test is None else published_flags(test, str(path)),
        natural=natural,
        remarks=remarks,
    )


def _npz_file(path: Path) -> Path:
    if path.is_file():
        return path
    found = [file for file in files(path) if file.suffix.lower() == ".npz"]
    if len(found) != 1:
        raise DataError(f"{path} holds {len(found)} .npz files, expected one. Name the file in data.name.")
    return found[0]


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


def _first(arrays: Arrays, names: tuple[str, ...]) -> NDArray[np.generic] | None:
    """Return the first array whose name, in any case, is one of ``names``."""
    lowered = {name.lower(): array for name, array in arrays.items()}
    return next((lowered[name] for name in names if name in lowered), None)


def _pick(arrays: Arrays, names: tuple[str, ...], path: Path) -> NDArray[np.generic]:
    found = _first(arrays, names)
    if found is None:
        raise DataError(f"{path} has no array {' or '.join(names)}; it has: {', '.join(arrays) or 'none'}.")
    return found
