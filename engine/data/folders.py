"""Which files and folders of a data set count: hidden ones, and what systems and archives leave behind, do not."""

import os
from collections.abc import Iterator
from pathlib import Path

from strata.engine.errors import DataError

LITTER = frozenset(
    {"__macosx", "__pycache__", "@eadir", "$recycle.bin", "system volume information", "lost+found"}
    | {"thumbs.db", "desktop.ini"}
)
"""What systems leave in folders, in lower case; names that begin with a dot do not count either."""


def counts(name: str) -> bool:
    """Whether a file or folder of this name is part of a set."""
    return not name.startswith(".") and name.lower() not in LITTER


def files(folder: Path) -> list[Path]:
    """The files in a folder that count, sorted; a link counts as what it leads to.

    Raises:
        DataError: if the folder cannot be read, a link leads nowhere, or something is neither a file nor a folder.
    """
    return _entries(folder)[0]


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder that count, sorted; a link counts as what it leads to.

    Raises:
        DataError: if the folder cannot be read, or a link leads nowhere.
    """
    return _entries(folder)[1]


def nearby(folder: Path) -> list[Path]:
    """The files of a folder and of its direct subfolders, sorted; published archives often unpack one level down.

    Raises:
        DataError: if one of the folders cannot be read, or a link leads nowhere.
    """
    own, folders = _entries(folder)
    return sorted([*own, *(file for inner in folders for file in files(inner))])


def refuse_placeholder(file: Path) -> None:
    """Refuse a file that only stands for another: a web page, or a pointer of Git LFS or git-annex.

    Raises:
        DataError: for such a file, saying which.
    """
    try:
        with file.open("rb") as content:
            start = content.read(200).lstrip(b"\xef\xbb\xbf \r\n\t")
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}).") from error
    if start[:9].lower() in (b"<!doctype", b"<html>") or start[:5].lower() == b"<html":
        raise DataError(f"{file} is a web page (HTML), not the data: the download went wrong. Fetch the file again.")
    if start.startswith(b"version https://git-lfs"):
        raise DataError(f"{file} is a pointer of Git LFS, not the data. Fetch the file with git lfs pull.")
    if start.startswith((b"/annex/objects/", b"../.git/annex/")):
        raise DataError(f"{file} is a pointer of git-annex, not the data. Fetch the file with git annex get.")


def files_below(folder: Path, top: Path | None = None) -> list[Path]:
    """The files of a folder and of all folders below it, sorted; links are followed, but not in circles.

    ``top``: the folder of the whole set, to which a link leads in a circle too.

    Raises:
        DataError: if one of the folders cannot be read, or a link leads nowhere.
    """
    return sorted(_walk(folder, frozenset({os.path.realpath(top)} if top else ())))


def _walk(folder: Path, above: frozenset[str]) -> Iterator[Path]:
    place = os.path.realpath(folder)
    if place in above:
        return
    own, folders = _entries(folder)
    yield from own
    for inner in folders:
        yield from _walk(inner, above | {place})


def _entries(folder: Path) -> tuple[list[Path], list[Path]]:
    own: list[Path] = []
    folders: list[Path] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if counts(entry.name):
                    place = folder / entry.name
                    if entry.is_symlink():
                        place.stat()  # of a link to nothing there is none
                    if not (entry.is_dir() or entry.is_file()):  # which would be read without end
                        raise DataError(f"{place} is a pipe, a socket or a device, and no data. Move it elsewhere.")
                    (folders if entry.is_dir() else own).append(place)
    except FileNotFoundError as error:
        raise DataError(f"{error.filename} is a link to nothing. Remove it, or fetch what it leads to.") from error
    except OSError as error:
        raise DataError(
            f"{folder} cannot be read ({error.strerror}). Give yourself permission to, or move it."
        ) from error
    return sorted(own), sorted(folders)
