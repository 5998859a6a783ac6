"""A folder of pictures per class, perhaps under folders for training and test."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from strata.engine.data.config import DataConfig
from strata.engine.data.folders import files, files_below, subfolders
from strata.engine.data.remarks import Remarks
from strata.engine.data.sources.pictures import read_pictures
from strata.engine.data.sources.raw import Raw, split_flags
from strata.engine.errors import DataError

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
TRAIN = ("train", "training")
TEST = ("test", "testing", "val", "valid", "validation", "dev", "eval")
"""How folders of the published test split are called, in any case; of several the first of these is it."""

Classes = Mapping[str, Sequence[Path]]


@dataclass(frozen=True)
class Splits:
    """The pictures of each class by the class's name, of the training and of the published test split."""

    train: Classes
    test: Classes
    remarks: Remarks


def class_folders(path: Path) -> dict[str, list[Path]]:
    """Return the pictures under each folder, at any depth, by its name; folders without pictures are left out.

    Raises:
        DataError: if a folder cannot be read.
    """
    found = {folder.name: _pictures(files_below(folder, path)) for folder in subfolders(path)}
    return {name: pictures for name, pictures in found.items() if pictures}


def read_picture_folders(path: Path, config: DataConfig) -> Raw:
    """Read pictures, a folder per class, perhaps under ``train/`` and ``test/`` or ``val/``, as ``(N, C, H, W)``.

    Raises:
        DataError: if there are no pictures, one cannot be read, they differ in size or depth, or if it is not clear
            which folders are classes.
    """
    splits = find_splits(path)
    parts = [splits.train, splits.test]
    listed = [file for part in parts for name in part for file in part[name]]
    if not listed:
        raise DataError(f"{path} holds no pictures: expected a folder per class with .png or .jpg files.")
    x, remarks = read_pictures(listed, config.resize)
    counts = [sum(map(len, part.values())) for part in parts]
    return Raw(
        x=x,
        labels=np.array([name for part in parts for name in part for _ in part[name]]),
        test=split_flags(*counts),
        remarks=splits.remarks + _other_files(path) + remarks,
    )


def find_splits(path: Path) -> Splits:
    """Find the classes and the splits of a folder of pictures.

    A folder called train or training that holds class folders is the training split, and the one beside it that is
    called test, testing, val, ... the published test split. Otherwise each folder is a class. A folder that holds
    nothing but one folder of folders is that folder.

    Raises:
        DataError: if a folder cannot be read, or if it is not clear what is a class and what a split.
    """
    held = class_folders(path)
    remarks = _left_out(path, held)
    train = next((name for name in held if name.lower() in TRAIN), "")
    tests = sorted((name for name in held if name.lower() in TEST), key=lambda name: TEST.index(name.lower()))
    if train and class_folders(path / train):
        return _split(path, train, tests, [name for name in held if name not in (train, *tests)], remarks)
    if len(held) == 1 and not _pictures([*files(path), *files(path / next(iter(held)))]):
        inner = find_splits(path / next(iter(held)))
        said = remarks.noted(f"{path} holds nothing but {_listed(held)}, which is read instead")
        return Splits(inner.train, inner.test, said + inner.remarks)
    within = [name for name in tests if class_folders(path / name)]
    if held and (set(held) <= {train, *tests} or any(set(class_folders(path / name)) & set(held) for name in within)):
        raise DataError(
            f"{path} holds {_listed(held)}: expected class folders, or train/ and test/ with class folders in them. "
            "Move the class folders into train/, or name the folder that holds them in data.name."
        )
    if train:
        remarks = remarks.noted(f"{path}: {train}/ is read as a class, for it holds no class folders")
    if tests:
        remarks = remarks.warned(f"{path}: {_listed(tests)} is read as a class, for it lies beside other classes.")
    return Splits(held, {}, remarks + _merged(path, held))


def _split(path: Path, train: str, tests: Sequence[str], others: Sequence[str], remarks: Remarks) -> Splits:
    if others and not tests:
        raise DataError(
            f"{path}: {train}/ holds class folders, and beside it lies {_listed(others)}. Name {path / train} in "
            f"data.name if it is the training split, or move what is not a class elsewhere."
        )
    classes = class_folders(path / train)
    remarks += _left_out(path / train, classes) + _merged(path / train, classes)
    if others:
        remarks = remarks.warned(f"{path}: {_listed(others)} is left out, for it lies beside the splits.")
    chosen: Classes = {}
    for name in tests:
        found, pictures = class_folders(path / name), len(_pictures(files_below(path / name)))
        if chosen:
            remarks = remarks.warned(f"{path / name} is left out with {pictures} pictures: another is the test split.")
        elif not set(found) & set(classes):
            said = (
                f"its folders ({_listed(found)}) are no classes of {train}" if found else "they are in no class folder"
            )
            remarks = remarks.warned(f"{path / name} is left out with {pictures} pictures: {said}.")
        else:
            chosen = found
            remarks = remarks.noted(f"{path / name} is the published test split") + _left_out(path / name, found)
            remarks += _merged(path / name, found)
            new = [label for label in found if label not in classes]
            if new:
                remarks = remarks.warned(f"{path / name} has classes that {train} has not: {_listed(new)}.")
    return Splits(classes, chosen, remarks)


def _left_out(path: Path, held: Classes) -> Remarks:
    """What of a folder of class folders is not read: loose pictures, folders without any, and other files."""
    remarks = Remarks()
    loose = _pictures(files(path))
    if loose:
        remarks = remarks.warned(
            f"{path}: {len(loose)} pictures beside the class folders are left out (the first is {loose[0].name})."
        )
    empty = [folder.name for folder in subfolders(path) if folder.name not in held]
    if empty:
        remarks = remarks.warned(f"{path}: no pictures in {_listed(empty)}, so it is no class.")
    return remarks


def _merged(path: Path, classes: Classes) -> Remarks:
    """Which folders of a folder of classes lie within a class, so that their pictures are of that class."""
    parents = {file.parent for name in classes for file in classes[name]} - {path / name for name in classes}
    if not parents:
        return Remarks()
    within = _listed(sorted(str(folder.relative_to(path)) for folder in parents))
    return Remarks().noted(f"{path}: the first folder of {within} is the class of the pictures there")


def _other_files(path: Path) -> Remarks:
    """Files below a folder that are no pictures, by how their names end."""
    ends = Counter(file.suffix.lower() or "no suffix" for file in files_below(path))
    listed = ", ".join(f"{n} × {end}" for end, n in sorted(ends.items()) if end not in PICTURE_SUFFIXES)
    return Remarks().noted(f"{path}: files that are no pictures are left out: {listed}") if listed else Remarks()


def _pictures(found: Sequence[Path]) -> list[Path]:
    return [file for file in found if file.suffix.lower() in PICTURE_SUFFIXES]


def _listed(names: Mapping[str, object] | Sequence[str]) -> str:
    shown = [f"{name}/" for name in list(names)[:6]]
    return ", ".join(shown) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
