"""Counts which item follows which in a log, for winnow.networks.successions.

Shape legend: I items, N watches, P pairs of items.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from winnow.history import RaggedRows, stretches
from winnow.networks.successions import PAIR_KEY_BASE

# A watch follows this many watches before it; the weight of each is one over its distance.
WINDOW = 3
# Weight of the prior, by which successors follow at random: a few sightings are not yet a rule.
PRIOR_COUNT = 20.0


@dataclass(frozen=True, kw_only=True, eq=False)
class SuccessionTable:
    """The lifts, float32 [P], of pairs with rising keys, int64 [P]: watched row * PAIR_KEY_BASE + successor's row.

    A lift is the logarithm of how much more often than by chance the successor follows. `unseen_lifts`, float32 [I], is
    the lift of any pair of this watched item that is not in the table; `log_popularity` is float32 [I].
    """

    keys: NDArray[np.int64]
    lifts: NDArray[np.float32]
    unseen_lifts: NDArray[np.float32]
    log_popularity: NDArray[np.float32]


def some_users(
    histories: RaggedRows, targets: NDArray[np.bool_], watch_count: int, *, seed: int
) -> tuple[RaggedRows, NDArray[np.bool_]]:
    """Return the histories of as many users, drawn at random, as have `watch_count` watches together, at most.

    And what `targets`, bool [N], says of these watches.
    """
    if len(histories.rows) <= watch_count:
        return histories, targets
    users = drawn_users(histories.lengths, watch_count, seed=seed)
    watches = stretches(histories.offsets[users], histories.lengths[users])
    return RaggedRows.from_lengths(histories.rows[watches], histories.lengths[users]), targets[watches]


def drawn_users(lengths: NDArray[np.int64], watch_count: int, *, seed: int) -> NDArray[np.int64]:
    """Return as many users, drawn at random, as have `watch_count` watches together, at most: int64, rising.

    `lengths`, int64, counts the watches of every user.
    """
    drawn = np.random.default_rng(seed).permutation(len(lengths))
    return np.sort(drawn[np.cumsum(lengths[drawn]) <= watch_count])


def count_successions(
    histories: RaggedRows, targets: NDArray[np.bool_], item_count: int, *, successors_per_item: int
) -> SuccessionTable:
    """Count in histories, one list per user; only the watches in `targets`, bool [N], count as successors.

    The most frequent successors of each item are kept.
    """
    rows = histories.rows.astype(np.int64)
    user_N = np.repeat(np.arange(len(histories)), histories.lengths)
    keys: NDArray[np.int64] = np.empty(0, dtype=np.int64)
    counts: NDArray[np.float64] = np.empty(0)
    for distance in range(1, WINDOW + 1):
        follows = (user_N[distance:] == user_N[:-distance]) & targets[distance:]
        found, often = np.unique(
            rows[:-distance][follows] * PAIR_KEY_BASE + rows[distance:][follows], return_counts=True
        )
        keys, places = np.unique(np.concatenate([keys, found]), return_inverse=True)
        counts = np.bincount(places, np.concatenate([counts, often / distance]), minlength=len(keys)).astype(np.float64)
    watched, successors = np.divmod(keys, PAIR_KEY_BASE)
    totals_I = np.bincount(watched, counts, minlength=item_count)
    # One is added so that no item is infinitely rare.
    popularity_I = np.bincount(successors, counts, minlength=item_count) + 1
    share_I = popularity_I / popularity_I.sum()
    lifts = np.log(
        (counts + PRIOR_COUNT * share_I[successors]) / ((totals_I[watched] + PRIOR_COUNT) * share_I[successors])
    )
    # The rank of each pair among those of its item, the most frequent first.
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
