"""Which items were watched more of late: their share of the watches in the latest window against their usual share."""

import numpy as np

from winnow.catalogue.trending import TrendingItems
from winnow.history import WatchHistories
from winnow.logs.blocks import count_rows

# The latest week, or the latest tenth of all watches where that is shorter: the rest has to say what is usual.
WINDOW_SECONDS = 7 * 24 * 3600
LARGEST_WINDOW_SHARE = 0.1
# Added to the watches of the window and to those expected in it: a few watches of a rare item are no trend. With a
# smaller number, the list holds items that hardly anybody watches; with a larger one, those that are popular anyway.
# Figures are in docs/sources.md.
ADDED_WATCHES = 10
# Enough to find some that match a filter.
MOST_ITEMS = 10_000


def trending_items(histories: WatchHistories, item_count: int, added_watches: float = ADDED_WATCHES) -> TrendingItems:
    """Return the items whose share of the latest watches exceeds their share of the earlier ones, the most first.

    The timestamps of all watches have to be known. There are none where all watches are of the same second.
    """
    timestamps = histories.timestamps
    if not len(timestamps):
        return TrendingItems.none()
    newest = int(timestamps.max())
    starts_at = max(newest - WINDOW_SECONDS, int(np.quantile(timestamps, 1 - LARGEST_WINDOW_SHARE, method="lower")))
    # At most a tenth is late.
    late = np.bincount(histories.rows[timestamps > starts_at], minlength=item_count)
    early = count_rows(histories.rows, item_count) - late
    # There are earlier watches: those of the second at which the window starts.
    expected = early * (late.sum() / early.sum())
    ratios = ((late + added_watches) / (expected + added_watches)).astype(np.float32)
    order = np.argsort(-ratios, kind="stable")[:MOST_ITEMS]
    rows = order[ratios[order] > 1].astype(np.int32)
    return TrendingItems(rows=rows, ratios=ratios[rows])
