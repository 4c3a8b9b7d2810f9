"""What is known of a watch besides its item, as small integer codes that the networks have weights for.

Training and serving call the same `codes`. Shape legend: N watches of all histories together, F features.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from winnow.history import UNKNOWN_TIME, RaggedRows, WatchHistories

# The code of every feature of which the caller said nothing.
UNKNOWN_CODE = 0


@dataclass(frozen=True, kw_only=True)
class WatchFeatures:
    """Two features of a watch: its weight, and the time since the previous watch of the same history.

    Both are cut into ranges: range r begins at edge r - 1 and ends before edge r.
    """

    weight_edges: tuple[float, ...] = ()
    """Rising. Logs differ in what a large weight is: training sets these to quantiles of the log."""
    gap_edges_seconds: tuple[float, ...] = ()
    """Rising, too."""

    def __post_init__(self) -> None:
        for name in ("weight_edges", "gap_edges_seconds"):
            edges = getattr(self, name)
            if any(after <= before for before, after in pairwise(edges)):
                raise ValueError(f"watch_features: {name} do not rise: {edges}")

    @property
    def sizes(self) -> tuple[int, int]:
        """How many codes each feature has: one per range, and UNKNOWN_CODE."""
        return len(self.weight_edges) + 2, len(self.gap_edges_seconds) + 2

    def codes(self, lists: RaggedRows) -> NDArray[np.int64]:
        """Return the codes of every watch, int64 [N, F]: the weight's and the gap's.

        The first watch of a history has no gap: its code is UNKNOWN_CODE.
        """
        histories = WatchHistories.of(lists)
        weights = np.searchsorted(self.weight_edges, histories.weights, side="right") + 1
        weights[np.isnan(histories.weights)] = UNKNOWN_CODE
        before = np.roll(histories.timestamps, 1)
        before[histories.offsets[:-1][histories.lengths > 0]] = UNKNOWN_TIME
        known = (histories.timestamps != UNKNOWN_TIME) & (before != UNKNOWN_TIME)
        # Floats do not overflow, whatever timestamps a caller sends.
        gap_seconds = histories.timestamps.astype(np.float64) - before
        gaps = np.searchsorted(self.gap_edges_seconds, gap_seconds, side="right") + 1
        return np.stack([weights, np.where(known, gaps, UNKNOWN_CODE)], axis=1)


def quantile_edges(values: NDArray[np.floating], range_count: int) -> tuple[float, ...]:
    """Return edges that cut values into at most `range_count` ranges of equal frequency, fewer where values repeat."""
    edges = np.unique(np.quantile(values, np.arange(1, range_count) / range_count, method="nearest"))
    return tuple(edges[edges > values.min()].tolist())
