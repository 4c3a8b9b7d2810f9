"""Arrays that are larger than memory may be: written to a file once, then mapped."""

import mmap
import tempfile
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", bound=np.generic)


class DiskArray(Generic[Number]):
    """An array that grows at its end, in a file without a name.

    The file is in the directory for temporary files (TMPDIR). The operating system removes it with the process, however
    that ends.
    """

    def __init__(self, dtype: type[Number]) -> None:
        self._dtype = dtype
        self._file = tempfile.TemporaryFile(prefix="winnow-", buffering=0)  # noqa: SIM115 - closed when it is mapped

    def append(self, values: NDArray[Any]) -> None:
        """Write values at the end. Raises OSError, which names the directory, where the disk is full."""
        left = np.ascontiguousarray(values, dtype=self._dtype).view(np.uint8).data
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise OSError(error.errno, error.strerror, tempfile.gettempdir()) from None

    def close(self) -> None:
        """Remove what was written, unless it is mapped."""
        self._file.close()

    def mapped(self) -> NDArray[Number]:
        """Return all values, read-only: the system reads pages of the file when they are used, and may drop them."""
        with self._file as file:
            if not file.tell():
                return np.empty(0, dtype=self._dtype)
            return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype=self._dtype)


def give_back(*arrays: NDArray[Any]) -> None:
    """Let the system take the memory of mapped arrays, which it reads again where they are used; others stay."""
    for array in arrays:
        base: object = array.base
        if isinstance(base, memoryview) and isinstance(base.obj, mmap.mmap):
            base.obj.madvise(mmap.MADV_DONTNEED)
