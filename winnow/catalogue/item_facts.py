"""What the networks know of the items besides their identity, as plain arrays.

Shape legend: I items.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from winnow.history import UNKNOWN_TIME

# Pads the values of an attribute where an item has fewer than others.
NO_VALUE = 0
# The author or category of an item that has none.
NO_GROUP = -1
UNKNOWN_DURATION = np.float32(-1)


@dataclass(frozen=True, kw_only=True, eq=False)
class ItemFacts:
    """What continuous features read of each of I items, by row."""

    authors: NDArray[np.int32]
    """Numbers from 0; NO_GROUP where there is none."""
    categories: NDArray[np.int32]
    """Numbers from 0; NO_GROUP where there is none."""
    uploaded: NDArray[np.int64]
    """Seconds since 1970; UNKNOWN_TIME where unknown."""
    durations: NDArray[np.float32]
    """Seconds; UNKNOWN_DURATION where unknown."""
    popularity: NDArray[np.float32]
    """Share of the watches that were known when the network was trained."""

    @classmethod
    def unknown(cls, popularity: NDArray[np.float32]) -> Self:
        """Items of which nothing but the popularity is known."""
        count = len(popularity)
        return cls(
            authors=np.full(count, NO_GROUP, dtype=np.int32),
            categories=np.full(count, NO_GROUP, dtype=np.int32),
            uploaded=np.full(count, UNKNOWN_TIME),
            durations=np.full(count, UNKNOWN_DURATION),
            popularity=popularity,
        )
