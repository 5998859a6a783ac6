"""Arrays that stay on the disk: what a program reads of them is all that is in memory.

They travel between processes as the names of their files, which every node must have.
"""

import hashlib
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strata.engine.errors import DataError

CHUNK_BYTES = 2**24


class Mapped(np.memmap[Any, Any]):
    """The array of an .npy file, read-only, read where it lies. Parts of it are arrays like any other."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        """What pickle keeps: the name of the file; of a part, its values."""
        if isinstance(self.base, mmap.mmap):
            return _opened_again, (Path(str(self.filename)), self._trace())
        return np.asarray(self).__reduce_ex__(protocol)

    def _trace(self) -> tuple[str, tuple[int, ...], str]:
        """What tells another file under the same name: type, shape, and a hash of the first and the last MiB."""
        size = self.dtype.itemsize * self.size
        with Path(str(self.filename)).open("rb") as file:
            ends = [(file.seek(self.offset + at), file.read(2**20))[1] for at in (0, max(0, size - 2**20))]
        return str(self.dtype), self.shape, hashlib.sha256(b"".join(ends)).hexdigest()

    def release(self) -> None:
        """Give the pages that were read back; the system still has them, and hands them out again without the disk."""
        if isinstance(self.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            self.base.madvise(mmap.MADV_DONTNEED)


def open_mapped(path: Path) -> Mapped:
    """Map an .npy file in C order.

    Raises:
        DataError: if it is not there, holds pickled objects, or is not in that form.
    """
    try:
        found = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise DataError(
            f"{path} is not on this machine: data on the disk must lie on every node, at one path."
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be mapped: {error}. Save a plain array of numbers with numpy.save.") from None
    if found.ndim > 1 and not found.flags.c_contiguous:
        raise DataError(f"{path} is in Fortran order. Save it with numpy.save(path, numpy.ascontiguousarray(array)).")
    return Mapped(path.absolute(), found.dtype, "r", found.offset, found.shape)


def release(*arrays: NDArray[np.generic]) -> None:
    """Give back the pages that were read of those arrays that are mapped: much more comes with a row than the row."""
    for array in arrays:
        if isinstance(array, Mapped):
            array.release()


def _opened_again(path: Path, trace: tuple[str, tuple[int, ...], str]) -> Mapped:
    made = open_mapped(path)
    if made._trace() != trace:
        raise DataError(
            f"{path} is another file here than where the run was started: data on the disk must be the same on every "
            "node, and stay as they are while a run goes on."
        )
    return made


def chunks(array: NDArray[np.generic]) -> Iterator[NDArray[np.generic]]:
    """An array in consecutive parts along its first axis; a mapped one is read from its file, not into the mapping."""
    rows = max(1, CHUNK_BYTES // max(1, array[:1].nbytes))
    if not (isinstance(array, Mapped) and isinstance(array.base, mmap.mmap)):
        yield from (array[first : first + rows] for first in range(0, len(array), rows))
        return
    with Path(str(array.filename)).open("rb") as file:
        file.seek(array.offset)
        for first in range(0, len(array), rows):
            shape = (min(rows, len(array) - first), *array.shape[1:])
            yield np.fromfile(file, array.dtype, int(np.prod(shape))).reshape(shape)
