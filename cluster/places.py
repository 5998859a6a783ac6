"""Places that are written to in the end: whether they can be, before anything else is done."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from strata.engine.errors import StrataError


def require_file(option: str, path: Path) -> None:
    """Check that a file can be written; what it holds, if it is there, stays as it is.

    Args:
        option: of the command line, with which it was named; for errors.
        path: of the file.

    Raises:
        StrataError: where it cannot.
    """
    if not path.resolve().parent.is_dir():
        raise StrataError(f"{option} {path}: there is no folder {path.parent}.")
    if path.exists() and not path.is_file() and not path.is_dir():
        return  # a device or a pipe, which opening might wait for
    new = not path.exists()
    try:
        path.open("ab").close()
        if new:
            path.unlink()
    except OSError as error:
        raise StrataError(f"{option} {path}: it cannot be written: {error}. Choose another file.") from None


@contextmanager
def tidied(folder: Path) -> Iterator[None]:
    """Remove at the end what was made inside of the way to a folder, and of this, where it holds nothing."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    finally:
        for path in missing:
            with suppress(OSError):
                path.rmdir()


def require_folder(folder: Path) -> None:
    """Check that files can be made in a folder, or that it can be made; all is left as it was.

    Raises:
        StrataError: where they cannot.
    """
    try:
        with tidied(folder):
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise StrataError(f"{folder}: nothing can be written there: {error}. Choose another folder.") from None


def fresh_folder(base: Path) -> Path:
    """Make a folder that was not there before, ``base`` or one with a number behind its name; returns it.

    Raises:
        OSError: when none can be made.
        StrataError: when all such names are taken.
    """
    for number in range(1000):
        path = base if not number else base.with_name(f"{base.name}-{number}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        return path
    raise StrataError(f"{base} and a thousand like it exist already.")
