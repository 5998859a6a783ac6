"""Fetching a published set: all of its files, of the right SHA-256, or none.

Files are downloaded and unpacked in a hidden folder beside the set's own, which that becomes in one step.
"""

import hashlib
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import IO, cast
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from strata.cluster.fetching.published import PublishedFile, PublishedSet
from strata.cluster.humanise import humanise_bytes
from strata.engine.errors import DataError

TIMEOUT_S = 30.0  # in which a server that sends nothing is given up
CHUNK = 1 << 20

Progress = Callable[[int], None]
"""Takes how many bytes of a file have come, whenever there are more."""


def address(file: PublishedFile, mirror: str) -> str:
    """Where a file is fetched from: where it is published, or the file of that name below a mirror.

    Args:
        file: as it is published.
        mirror: an address, or a folder of this machine; empty for none.
    """
    if not mirror:
        return file.url
    base = (
        mirror if urlsplit(mirror).scheme in ("http", "https", "ftp") else Path(mirror).expanduser().resolve().as_uri()
    )
    return f"{base.rstrip('/')}/{file.name}"


def whole(folder: Path, wanted: PublishedSet) -> bool:
    """Whether a folder holds the files of a set.

    Raises:
        DataError: where it holds something else, or some of them.
    """
    if not folder.exists():
        return False
    there = {path.name.removesuffix(".gz") for path in folder.rglob("*")}
    missing = [name for name in wanted.kept if name.removesuffix(".gz") not in there]
    if missing:
        raise DataError(
            f"{folder} is there, and lacks {', '.join(missing)}. Move it away, and fetch {wanted.name} again; nothing "
            "in it was changed."
        )
    return True


def fetch(wanted: PublishedSet, folder: Path, mirror: str, told: Callable[[str, int], Progress]) -> None:
    """Download a set into a folder that is not there yet.

    Args:
        wanted: the set.
        folder: that it becomes; those above it are made.
        mirror: see :func:`address`.
        told: is given the address and the size of each file, in bytes, before it is downloaded.

    Raises:
        DataError: where a file cannot be had, or is another than was published, or the folder cannot be written; then
            nothing is left.
    """
    with _aside(folder) as partial:
        for file in wanted.files:
            archive = partial / file.name
            url = address(file, mirror)
            try:
                _download(file, url, archive, told(url, file.size_bytes))
            except _AwayError as error:
                raise DataError(_unreachable(str(error), wanted, folder)) from None
            if file.members:
                _unpack(file, archive, partial)
                archive.unlink()
        partial.chmod(0o755)  # it was made for one user alone
        partial.rename(folder)


@contextmanager
def _aside(folder: Path) -> Iterator[Path]:
    """A fresh folder beside another, which is gone in the end unless it was renamed."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"{folder} cannot be written: {error}. Free the disk, or choose another place with --root FOLDER."
        ) from None


class _AwayError(Exception):
    """What is at an address cannot be had: the address, and why."""


def _download(file: PublishedFile, url: str, path: Path, progress: Progress) -> None:
    digest, size = hashlib.sha256(), 0
    with path.open("xb") as target:
        for chunk in _chunks(url):
            target.write(chunk)
            digest.update(chunk)
            size += len(chunk)
            progress(size)
    if digest.hexdigest() != file.sha256:
        raise DataError(
            f"{url}: expected {file.size_bytes:,} bytes with SHA-256 {file.sha256}; there came {size:,} with "
            f"{digest.hexdigest()}. It is not what was published, so nothing was kept. Try again, or another source "
            "with --from."
        )


def _chunks(url: str) -> Iterator[bytes]:
    try:
        with urlopen(Request(url, headers={"User-Agent": "strata"}), timeout=TIMEOUT_S) as source:
            while chunk := source.read(CHUNK):
                yield chunk
    except HTTPError as error:
        raise _AwayError(f"{url} cannot be fetched: HTTP {error.code} {error.reason}") from None
    except (URLError, HTTPException, OSError, ValueError) as error:
        reason = str(getattr(error, "reason", error)) or type(error).__name__
        raise _AwayError(f"{url} cannot be fetched: {reason}") from None


def _unreachable(said: str, wanted: PublishedSet, folder: Path) -> str:
    """What was wanted, from where, and how else it can be had."""
    files = "; ".join(f"{one.url} ({one.size_bytes:,} bytes, SHA-256 {one.sha256})" for one in wanted.files)
    return (
        f"{said}. Nothing was kept. Where there is a network, download {files}; bring that here, and give its folder: "
        f"strata fetch {wanted.name} --from FOLDER. Expected in {folder} then: {', '.join(wanted.kept)}."
    )


def _unpack(file: PublishedFile, archive: Path, into: Path) -> None:
    """Take the members of an archive that are wanted out of it."""
    with ExitStack() as open_files:
        take: Callable[[str], IO[bytes] | None]
        if archive.suffix == ".zip":
            take = open_files.enter_context(zipfile.ZipFile(archive)).open
        else:
            take = open_files.enter_context(tarfile.open(archive)).extractfile
        for member, name in zip(file.members, file.kept, strict=True):
            with cast(IO[bytes], take(member)) as source, (into / name).open("xb") as target:
                shutil.copyfileobj(source, target, CHUNK)


def plan(wanted: PublishedSet, folder: Path, mirror: str) -> Iterator[str]:
    """What fetching a set comes to, in lines for people."""
    remark = f" ({wanted.remark})" if wanted.remark else ""
    yield f"{wanted.name}: {humanise_bytes(wanted.size_bytes)} into {folder}{remark}"
    for file in wanted.files:
        yield f"  {address(file, mirror)}  {file.size_bytes:,} bytes  SHA-256 {file.sha256}"
    yield f"  leaves {', '.join(wanted.kept)}"
