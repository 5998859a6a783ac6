"""Readers of image sets: IDX (MNIST family) and CIFAR binary.

# N samples, H height, W width
"""

import gzip
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from strata.engine.data.folders import nearby
from strata.engine.data.remarks import Remarks
from strata.engine.data.sources.raw import Raw, split_flags
from strata.engine.errors import DataError

IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
IDX_IMAGES = re.compile(r"(?P<set>.*?)(?P<split>train|t10k|test)-images[-.]idx(?P<axes>\d)-ubyte(\.gz)?", re.I)
CIFAR_PIXELS = 3 * 32 * 32


def read_idx_array(path: Path) -> NDArray[np.generic]:
    """One IDX file, compressed by gzip or not, as an array of the shape it declares.

    Raises:
        DataError: if the file is damaged, or is not IDX.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be decompressed ({error}). Fetch the file again.") from error
    axes = content[3] if len(content) >= 4 else 0
    start = 4 + 4 * axes
    if content[:2] != b"\0\0" or len(content) < start or axes == 0 or content[2] not in IDX_TYPES:
        raise DataError(f"{path} is not an IDX file: it starts with {content[:4].hex() or 'nothing'}.")
    shape = np.frombuffer(content, ">u4", count=axes, offset=4).astype(np.int64)
    kind = np.dtype(IDX_TYPES[content[2]])
    expected = int(shape.prod()) * kind.itemsize
    if len(content) - start != expected:
        raise DataError(
            f"{path} declares {'×'.join(map(str, shape))} values = {expected} bytes and holds {len(content) - start}. "
            "Fetch the file again."
        )
    return np.frombuffer(content, kind, offset=start).reshape(shape)


def idx_image_files(path: Path) -> list[Path]:
    """Return the IDX image files at a path; of a file and its compressed twin the plain one."""
    files = [path] if path.is_file() else nearby(path)
    found = {str(file).removesuffix(".gz"): file for file in reversed(files) if IDX_IMAGES.fullmatch(file.name)}
    return sorted(found.values())


def _idx_labels_file(images: Path) -> Path:
    """Return the labels that belong to an IDX image file."""
    plain = re.sub(r"images([-.])idx\d", r"labels\1idx1", images.name.removesuffix(".gz"), flags=re.I)
    for candidate in (images.with_name(plain), images.with_name(f"{plain}.gz")):
        if candidate.is_file():
            return candidate
    raise DataError(f"{images} has no labels beside it: expected {plain} or {plain}.gz in {images.parent}.")


def _read_idx_part(images: Path) -> tuple[NDArray[np.generic], NDArray[np.generic], bool]:
    """Return inputs, labels and whether they are the published test split."""
    match = IDX_IMAGES.fullmatch(images.name)
    assert match is not None
    x, labels = read_idx_array(images), read_idx_array(_idx_labels_file(images))
    if len(x) != len(labels) or x.ndim < 2:
        raise DataError(f"{images} has shape {x.shape} and its labels {labels.shape}: expected one label an image.")
    if x.ndim == 3:
        # EMNIST was written column by column: a letter lies on its side unless it is transposed.
        x = x.swapaxes(1, 2) if match["set"].lower().startswith("emnist") else x
        x = x[:, None]
    return x, labels, match["split"].lower() != "train"


def read_idx(path: Path) -> Raw:
    """Read an IDX set: images ``(N, 1, H, W)`` from ``[NAME-]{train,t10k}-images-idx3-ubyte[.gz]`` and their labels.

    Raises:
        DataError: if there are no such files, if they are damaged, or if the folder holds several sets.
    """
    files = idx_image_files(path)
    if not files:
        raise DataError(f"{path} holds no IDX images: expected names such as train-images-idx3-ubyte.gz.")
    sets = sorted({match["set"] for file in files if (match := IDX_IMAGES.fullmatch(file.name))})
    if len(sets) > 1:
        raise DataError(
            f"{path} holds {len(sets)} IDX sets ({', '.join(name.strip('-') for name in sets)}). "
            "Give each its own folder and name that folder in data.name."
        )
    _check_once([file.name.removesuffix(".gz") for file in files], path)
    parts = sorted((_read_idx_part(file) for file in files), key=lambda part: part[2])
    test = np.concatenate([np.full(len(x), is_test) for x, _, is_test in parts])
    return Raw(
        x=np.concatenate([x for x, _, _ in parts]),
        labels=np.concatenate([labels for _, labels, _ in parts]),
        test=test if 0 < test.sum() < len(test) else None,
    )


def cifar_files(path: Path) -> tuple[list[Path], list[Path]]:
    """Return the training and test files of the binary version of CIFAR-10 or CIFAR-100 at a path."""
    files = [path] if path.is_file() else nearby(path)
    train = [file for file in files if re.fullmatch(r"(data_batch_\d+|train)\.bin", file.name)]
    return train, [file for file in files if re.fullmatch(r"(test_batch|test)\.bin", file.name)]


def _read_cifar_file(path: Path, label_bytes: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images ``(N, 3, 32, 32)`` and labels; of CIFAR-100's two label bytes the second, the fine one."""
    content = np.fromfile(path, np.uint8)
    record = label_bytes + CIFAR_PIXELS
    if not len(content) or len(content) % record:
        raise DataError(
            f"{path} has {len(content)} bytes, not a multiple of {record} ({label_bytes} label + {CIFAR_PIXELS} pixel "
            "bytes a record). It is not the binary version, or it is damaged."
        )
    records = content.reshape(-1, record)
    return records[:, label_bytes:].reshape(-1, 3, 32, 32), records[:, label_bytes - 1]


def read_cifar(path: Path) -> Raw:
    """CIFAR-10 or CIFAR-100 (fine labels), binary version: ``(N, 3, 32, 32)`` uint8 in planes R, G, B.

    CIFAR-10 is known by ``data_batch_*.bin`` and ``test_batch.bin``, CIFAR-100 by ``train.bin`` and ``test.bin``.

    Raises:
        DataError: if there are no such files, or they are damaged.
    """
    train, test = cifar_files(path)
    if not train and not test:
        raise DataError(f"{path} holds no CIFAR files: expected data_batch_*.bin and test_batch.bin, or train.bin.")
    hundred = any(file.name in ("train.bin", "test.bin") for file in train + test)
    _check_once([file.name for file in train + test], path)
    if hundred and not all(file.name in ("train.bin", "test.bin") for file in train + test):
        raise DataError(f"{path} holds CIFAR-10 and CIFAR-100. Name the folder of one of them in data.name.")
    parts = [_read_cifar_file(file, 2 if hundred else 1) for file in train + test]
    names = _lines((train + test)[0].parent / ("fine_label_names.txt" if hundred else "batches.meta.txt"))
    classes = 100 if hundred else 10
    return Raw(
        x=np.concatenate([x for x, _ in parts]),
        labels=np.concatenate([labels for _, labels in parts]),
        test=split_flags(sum(len(x) for x, _ in parts[: len(train)]), sum(len(x) for x, _ in parts[len(train) :])),
        names=names if len(names) == classes else [str(label) for label in range(classes)],
        remarks=Remarks() if path.is_file() else _missing_files([file.name for file in train + test], hundred, path),
    )


def _missing_files(there: Sequence[str], hundred: bool, path: Path) -> Remarks:
    expected = (
        ["train.bin", "test.bin"] if hundred else [*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"]
    )
    missing = [name for name in expected if name not in there]
    if not missing:
        return Remarks()
    return Remarks().warned(f"{path}: {', '.join(missing)} of CIFAR-{100 if hundred else 10} are not there.")


def _check_once(names: Sequence[str], path: Path) -> None:
    """Refuse a folder whose subfolders hold the same file several times."""
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise DataError(
            f"{path} holds {twice} {names.count(twice)} times. Name the folder of one of them in data.name."
        )


def _lines(path: Path) -> list[str]:
    """Return the lines of a text file that are not empty; none where there is no file."""
    return [line.strip() for line in path.read_text().splitlines() if line.strip()] if path.is_file() else []
