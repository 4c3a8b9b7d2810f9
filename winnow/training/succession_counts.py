"""Counts what follows what in a log: see winnow.networks.successions.

Shape legend: I items, N watches, P pairs of items.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from winnow.history import RaggedRows

# A watch counts as following the last few before it, the nearest most.
WINDOW = 3
# Chance is added to every item's successors this many times, so that a few sightings are not taken for a rule.
PRIOR_COUNT = 20.0


@dataclass(frozen=True, kw_only=True, eq=False)
class SuccessionTable:
    """The lifts of P pairs (float32), by rising key watch * I + successor (int64).

    `unseen_lifts`, float32 [I], is the lift after this item of any other that the table does not have.
    """

    keys: NDArray[np.int64]
    lifts: NDArray[np.float32]
    unseen_lifts: NDArray[np.float32]
    log_popularity: NDArray[np.float32]


def count_successions(
    histories: RaggedRows, targets: NDArray[np.bool_], item_count: int, *, successors_per_item: int
) -> SuccessionTable:
    """Count from histories, one list a user; only the watches in `targets`, bool [N], count as following others.

    Of each item the most frequent successors are kept.
    """
    rows = histories.rows.astype(np.int64)
    user_N = np.repeat(np.arange(len(histories)), histories.lengths)
    keys: NDArray[np.int64] = np.empty(0, dtype=np.int64)
    counts: NDArray[np.float64] = np.empty(0)
    for distance in range(1, WINDOW + 1):
        follows = (user_N[distance:] == user_N[:-distance]) & targets[distance:]
        found, often = np.unique(rows[:-distance][follows] * item_count + rows[distance:][follows], return_counts=True)
        keys, places = np.unique(np.concatenate([keys, found]), return_inverse=True)
        counts = np.bincount(places, np.concatenate([counts, often / distance]), minlength=len(keys)).astype(np.float64)
    watched, successors = np.divmod(keys, item_count)
    totals_I = np.bincount(watched, counts, minlength=item_count)
    # One is added, so that no item is infinitely rare.
    popularity_I = np.bincount(successors, counts, minlength=item_count) + 1
    share_I = popularity_I / popularity_I.sum()
    lifts = np.log(
        (counts + PRIOR_COUNT * share_I[successors]) / ((totals_I[watched] + PRIOR_COUNT) * share_I[successors])
    )
    # The place of each pair among those of its item, the most frequent first.
    order = np.lexsort((-counts, watched))
    places = np.empty(len(order), dtype=np.int64)
    places[order] = np.arange(len(order)) - np.searchsorted(watched[order], watched[order])
    kept = places < successors_per_item
    return SuccessionTable(
        keys=keys[kept],
        lifts=lifts[kept].astype(np.float32),
        unseen_lifts=np.log(PRIOR_COUNT / (totals_I + PRIOR_COUNT)).astype(np.float32),
        log_popularity=np.log(popularity_I).astype(np.float32),
    )
