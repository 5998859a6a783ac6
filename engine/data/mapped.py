"""Arrays that stay on the disk: what a program reads of them is all that is in memory.

They travel between processes as the names of their files, which every node must have.
"""

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
            return open_mapped, (Path(str(self.filename)),)
        return np.asarray(self).__reduce_ex__(protocol)

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
