"""Goes through histories that are larger than memory may be, block by block.

Shape legend: N watches of all histories, I items.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from winnow.history import Rows

# 64 MB of int64.
WATCHES_PER_BLOCK = 8_000_000


def blocks_of_lengths(
    lengths: NDArray[np.int64], watches_per_block: int = WATCHES_PER_BLOCK
) -> Iterator[tuple[int, int]]:
    """Yield the first list and the one after the last of each block, at least one block.

    The lists of a block have at most `watches_per_block` watches together, or it is one list.
    """
    ends = np.cumsum(lengths)
    first = 0
    while True:
        limit = watches_per_block + (int(ends[first - 1]) if first else 0)
        last = min(max(int(np.searchsorted(ends, limit, side="right")), first + 1), len(lengths))
        yield first, last
        first = last
        if first >= len(lengths):
            return


def slices(count: int, watches_per_block: int = WATCHES_PER_BLOCK) -> Iterator[slice]:
    """Yield the blocks of an array of N elements."""
    for start in range(0, count, watches_per_block):
        yield slice(start, min(start + watches_per_block, count))


def count_rows(rows: Rows, item_count: int) -> NDArray[np.int64]:
    """Count how often each row occurs, int64 [I]."""
    counts = np.zeros(item_count, dtype=np.int64)
    for block in slices(len(rows)):
        counts += np.bincount(rows[block], minlength=item_count)
    return counts
