"""Arrays: one .npz file, or a folder of .npy files, which stay on the disk.

# N samples
"""

import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from strata.engine.data.config import DataConfig
from strata.engine.data.folders import files
from strata.engine.data.mapped import open_mapped
from strata.engine.data.remarks import Remarks
from strata.engine.data.sources.raw import Raw, client_names, published_flags
from strata.engine.data.supervision import flattened
from strata.engine.errors import DataError

X_NAMES = ("x", "data", "images", "inputs")
Y_NAMES = ("y", "label", "labels", "target")
CLIENT_NAMES = ("client", "subject", "user", "natural")

TRAIN = "train"
TESTS = ("test", "val", "valid", "validation")
"""Names of splits that are published as test data; where there are several, the first of these is it."""

_WHAT = "|".join((*X_NAMES, *Y_NAMES, *CLIENT_NAMES))
_SPLIT = "|".join((TRAIN, *TESTS))
_SPLIT_NAME = re.compile(rf"(?P<a>{_WHAT})_?(?P<b>{_SPLIT})|(?P<c>{_SPLIT})_?(?P<d>{_WHAT})", re.I)

COLOURS = (1, 3, 4)
"""Numbers of channels that pictures have."""

SIDE = 8
"""Pixels that pictures have on either side at least, where their shape alone tells that they are some."""

Arrays = Mapping[str, NDArray[np.generic]]


def read_npz(path: Path, config: DataConfig) -> Raw:
    """Read an .npz file: ``X`` ``(N, ...)``, ``y`` ``(N,)``, optionally ``client`` or ``subject``, and ``test`` flags.

    Or ``x_train``, ``y_train``, ``x_test``, ``y_test``, or ``train_images``, ``train_labels`` and so on. Classes may
    also be ``(N, 1)``, or ``(N, K)`` with a single 1 in each row; for other targets see
    :func:`~strata.engine.data.supervision.task_of`. ``data.client_column`` names the client array if it
    is called otherwise; for ``data.layout`` see :func:`channels_first`.

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
    named = {file.stem: file for file in files(folder) if file.suffix.lower() == ".npy"}
    taken = [name for name in named if name.lower() in wanted or _SPLIT_NAME.fullmatch(name)]
    return _raw({name: open_mapped(named[name]) for name in taken}, folder, config)


def _raw(arrays: Arrays, path: Path, config: DataConfig) -> Raw:
    arrays, remarks = _joined(arrays, path)
    x, labels = _pick(arrays, X_NAMES, path), _pick(arrays, Y_NAMES, path)
    if config.client_column and config.client_column not in arrays:
        raise DataError(
            f"{path} has no array {config.client_column!r}. Set data.client_column to one of: {', '.join(arrays)}."
        )
    if x.ndim < 2:
        raise DataError(f"{path}: X has shape {x.shape}, expected (N, ...): one input a row.")
    client = arrays.get(config.client_column, _first(arrays, CLIENT_NAMES))
    test = _first(arrays, ("test",))
    unread = [name for name, array in arrays.items() if not any(array is one for one in (x, labels, client, test))]
    remarks = remarks.noted(f"{path}: not read: {', '.join(unread)}") if unread else remarks
    flags = None if test is None else published_flags(test, str(path))
    labels, said = flattened(labels, config.task)
    remarks += said
    first = labels[:, 0] if labels.ndim == 2 else labels
    for name, array in (("y", first), ("client", client), ("test", test)):
        if array is not None and array.shape != (len(x),):
            raise DataError(f"{path}: {name} has shape {array.shape}, expected ({len(x)},) as X has {len(x)} rows.")
    natural, said = client_names(client, str(path))
    x, shape = channels_first(x, config.layout)
    remarks += said + shape
    if test is not None and flags is None:
        remarks = remarks.warned(f"{path}: test is {int(test.any())} in all rows, so there is no published test split.")
    return Raw(
        x=x,
        labels=labels,
        test=flags,
        natural=natural,
        remarks=remarks,
    )


def _joined(arrays: Arrays, path: Path) -> tuple[Arrays, Remarks]:
    """Arrays whose names say of which split they are, as X, y and test; others as they are.

    Raises:
        DataError: if arrays of two splits have different shapes.
    """
    if set(arrays) == {"arr_0", "arr_1"}:  # numpy.savez(path, X, y)
        return {"X": arrays["arr_0"], "y": arrays["arr_1"]}, Remarks().noted(f"{path}: arr_0 is read as X, arr_1 as y")
    splits: dict[str, dict[str, NDArray[np.generic]]] = {}
    for name, array in arrays.items():
        if match := _SPLIT_NAME.fullmatch(name):
            splits.setdefault((match["b"] or match["c"]).lower(), {})[(match["a"] or match["d"]).lower()] = array
    if TRAIN not in splits or _first(arrays, X_NAMES) is not None:
        return arrays, Remarks()
    test = next((name for name in TESTS if name in splits), None)
    remarks = Remarks().noted(f"{path}: its arrays of train" + (f" and {test} are joined" if test else " are read"))
    others = [name for name in arrays if not _SPLIT_NAME.fullmatch(name)]
    remarks = remarks.noted(f"{path}: not read: {', '.join(others)}") if others else remarks
    left = [name for name in splits if name not in (TRAIN, test)]
    if left:
        remarks = remarks.warned(f"{path}: its arrays of {', '.join(left)} are not read, for {test} is the test split.")
    if test is None:
        return splits[TRAIN], remarks
    made: dict[str, NDArray[np.generic]] = {}
    for name, array in splits[TRAIN].items():
        other = splits[test].get(name)
        if other is None or 0 in (other.ndim, array.ndim) or other.shape[1:] != array.shape[1:]:
            found = "none" if other is None else other.shape
            raise DataError(f"{path}: {name} of train has shape {array.shape}, that of {test} {found}: expected alike.")
        made[name] = np.concatenate([array, other])
    x = [_pick(splits[name], X_NAMES, path) for name in (TRAIN, test)]
    return {**made, "test": np.repeat([False, True], [len(x[0]), len(x[1])])}, remarks


def channels_first(x: NDArray[np.generic], layout: str) -> tuple[NDArray[np.generic], Remarks]:
    """Inputs ``(N, ...)`` with their channels on axis 1, as ``data.layout`` says, and what to say of it.

    ``none``: there are no channels, an axis of length 1 is put in. ``auto``: ``(N, H, W)`` are grey pictures where they
    are square or uint8, and have eight pixels or more on either side; else ``(N, channels, length)``. ``(N, H, W, C)``
    have channels last where C is 1, 3 or 4 and H is not.
    """
    if x.ndim < 3 or layout == "first":
        return x, Remarks()
    chosen, shape = layout, "×".join(map(str, x.shape[1:]))
    large = min(x.shape[1:3]) >= SIDE
    if layout == "auto":
        colours = x.ndim == 4 and x.shape[3] in COLOURS and x.shape[1] not in COLOURS
        grey = x.ndim == 3 and (x.dtype == np.uint8 or x.shape[1] == x.shape[2])
        chosen = "last" if colours and large else "none" if grey and large else "first"
    if chosen == "first":
        remarks = Remarks()
        if x.ndim == 3:
            remarks = remarks.noted(f"inputs of {shape} are series of {x.shape[1]} channels (data.layout)")
        if x.ndim == 3 and x.shape[1] > x.shape[2]:
            remarks = remarks.warned(
                f"inputs of {shape} are read as {x.shape[1]} channels of {x.shape[2]} steps. Set data.layout=last if "
                "channels lie last, none if they are pictures, or first if this is meant."
            )
        return x, remarks
    if chosen == "last":
        return np.moveaxis(x, -1, 1), Remarks().noted(f"channels of inputs of {shape} lie last (data.layout)")
    return x[:, None], Remarks().noted(f"inputs of {shape} have no channels (data.layout)")


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
        with path.open("rb") as file:
            start = file.read(6)
            file.seek(0)
            if start == b"\x93NUMPY":
                raise DataError(
                    f"{path} is a single array (.npy). Save X and y with numpy.savez, or in a folder of .npy."
                )
            if not start.startswith((b"PK", b"\x80")):
                raise DataError(f"{path} is no .npz: it starts with {start!r}. Fetch or save it again.")
            with np.load(file, allow_pickle=False) as archive:
                found = {name: archive[name] for name in archive.files}
    except MemoryError as error:
        raise DataError(
            f"{path} declares arrays that do not fit into memory ({error}). Check how it was saved."
        ) from error
    except ValueError as error:
        if "pickle" not in str(error).lower():
            raise DataError(f"{path} cannot be read as .npz ({error}).") from error
        raise DataError(
            f"{path} holds pickled objects, and loading a pickle runs whatever code it holds, so Strata never does. "
            "Save plain arrays of numbers or text instead of dtype=object."
        ) from error
    except (OSError, EOFError, RuntimeError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} cannot be read as .npz ({error}).") from error
    return {name: array for name, array in found.items() if isinstance(array, np.ndarray)}


def _first(arrays: Arrays, names: tuple[str, ...]) -> NDArray[np.generic] | None:
    """Return the first array whose name, in any case, is one of ``names``."""
    lowered = {name.lower(): array for name, array in arrays.items()}
    return next((lowered[name] for name in names if name in lowered), None)


def _pick(arrays: Arrays, names: tuple[str, ...], path: Path) -> NDArray[np.generic]:
    found = _first(arrays, names)
    if found is None:
        raise DataError(f"{path} has no array {' or '.join(names)}; it has: {', '.join(arrays) or 'none'}.")
    return found
