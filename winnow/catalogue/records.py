"""Files of records that stay on disk: only where each record ends is in memory."""

import os
import weakref
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# Large enough that the scan is as fast as the disk, small beside what a service holds.
SCANNED_BYTES = 1 << 20


class RecordFile:
    """Records by row, each ended in the file by one byte that none of them holds.

    Takes 4 bytes of memory a record, 8 where the file has 4 GiB or more; the system's cache holds what is read often.
    The file is read, not mapped: whoever shortens it causes an error, not the end of the process.
    """

    def __init__(self, path: Path, end: bytes, count: int) -> None:
        """Raise ValueError unless the file holds `count` records, OSError where it cannot be read."""
        self._name = path.name
        self._descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)
        self._ends = self._find_ends(end)
        if len(self._ends) != count:
            raise ValueError(f"{path.name} has {len(self._ends)} records for {count} items")

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, row: int) -> bytes:
        return self.read(row, row + 1)[:-1]

    def read(self, first: int, last: int) -> bytes:
        """Return the records `first` to `last`, this one not included, with the bytes that end them."""
        start, end = self.start(first), self.start(last)
        data = os.pread(self._descriptor, end - start, start)
        if len(data) != end - start:
            raise OSError(f"{self._name} is shorter than when it was opened")
        return data

    def start(self, row: int) -> int:
        """Where in the file the record begins; for the number of records, where the last one ends."""
        return int(self._ends[row - 1]) + 1 if row else 0

    def row_at(self, offset: int) -> int:
        """The record that a byte of the file belongs to; beyond the file, the number of records."""
        # Of the same type as the ends: they would be copied otherwise.
        end = self._ends.dtype.type(min(offset, self.start(len(self))))
        return int(np.searchsorted(self._ends, end))

    def _find_ends(self, end: bytes) -> NDArray[np.uint32] | NDArray[np.int64]:
        found = []
        offset = 0
        while data := os.pread(self._descriptor, SCANNED_BYTES, offset):
            found.append(np.flatnonzero(np.frombuffer(data, np.uint8) == end[0]) + offset)
            offset += len(data)
        ends = np.concatenate(found) if found else np.zeros(0, np.int64)
        return ends.astype(np.uint32) if offset <= np.iinfo(np.uint32).max else ends
