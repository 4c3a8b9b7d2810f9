"""What is known of a watch besides its item, as small integers that the networks have weights for.

Training and serving call the same `codes`. Shape legend: N watches of all histories together, F features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from winnow.history import UNKNOWN_TIME, RaggedRows, WatchHistories

# Code 0 of every feature: nobody said.
UNKNOWN_CODE = 0


@dataclass(frozen=True, kw_only=True)
class WatchFeatures:
    """Two features of a watch: how much it counts, and how long after the watch before it it was.

    Both are cut into ranges: range r begins at edge r - 1 and ends before edge r, edges rising. What counts and what
    does not differs between logs, so the edges of the weight are quantiles of the log.
    """

    weight_edges: tuple[float, ...]
    gap_edges_seconds: tuple[float, ...]

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Sequence[float]]) -> "WatchFeatures":
        """Rebuild from `arguments()`. Raises TypeError for other names, ValueError for edges that do not rise."""
        features = cls(**{name: tuple(edges) for name, edges in arguments.items()})
        for name, edges in features.arguments().items():
            if any(after <= before for before, after in pairwise(edges)):
                raise ValueError(f"watch_features: {name} do not rise: {edges}")
        return features

    def arguments(self) -> dict[str, Any]:
        """Return JSON values with which `from_arguments` builds the same features."""
        return {"weight_edges": list(self.weight_edges), "gap_edges_seconds": list(self.gap_edges_seconds)}

    @property
    def sizes(self) -> tuple[int, int]:
        """How many codes each feature has: one a range, and UNKNOWN_CODE."""
        return len(self.weight_edges) + 2, len(self.gap_edges_seconds) + 2

    def codes(self, lists: RaggedRows) -> NDArray[np.int64]:
        """Return the codes of every watch, int64 [N, F]: the weight's and the gap's.

        The gap is to the watch before it in the same history; the first one has none and is unknown.
        """
        histories = WatchHistories.of(lists)
        weights = np.searchsorted(self.weight_edges, histories.weights, side="right") + 1
        weights[np.isnan(histories.weights)] = UNKNOWN_CODE
        before = np.roll(histories.timestamps, 1)
        before[histories.offsets[:-1][histories.lengths > 0]] = UNKNOWN_TIME
        known = (histories.timestamps != UNKNOWN_TIME) & (before != UNKNOWN_TIME)
        # As floats, which do not overflow whatever a caller sends.
        gap_seconds = histories.timestamps.astype(np.float64) - before
        gaps = np.searchsorted(self.gap_edges_seconds, gap_seconds, side="right") + 1
        return np.stack([weights, np.where(known, gaps, UNKNOWN_CODE)], axis=1)


def quantile_edges(values: NDArray[np.floating], range_count: int) -> tuple[float, ...]:
    """Cut values into at most `range_count` ranges of equal frequency; fewer where values repeat, none where all do."""
    edges = np.unique(np.quantile(values, np.arange(1, range_count) / range_count, method="nearest"))
    return tuple(edges[edges > values.min()].tolist())
