"""The best rows that a user has not seen, from scores of all items: dense ones, or sparse ones, where most are zero.

Shape legend: B histories, I items, K rows of an answer.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from winnow.history import RaggedRows


def most_watched_first(training: RaggedRows, item_count: int) -> NDArray[np.int64]:
    """Return all rows, the most watched in training first, int64 [I].

    Ties are in reverse row order: rows are ordered by all watches, and must not reveal the held-out ones.
    """
    counts_I = np.bincount(training.rows, minlength=item_count)
    return np.lexsort((-np.arange(item_count), -counts_I))


def best_of_dense(
    scores_BI: NDArray[np.floating], histories: RaggedRows, count: int, preferred_I: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the unseen rows with the largest scores, best first, int64 [B, K]; ties are in the order of `preferred_I`.

    The scores of seen items are overwritten. Where fewer than K unseen items are left, a list ends with seen ones.
    """
    scores_BI[np.repeat(np.arange(len(histories)), histories.lengths), histories.rows] = -np.inf
    scores_BI = scores_BI[:, preferred_I]
    count = min(count, scores_BI.shape[1])
    least_B1 = np.partition(scores_BI, -count, axis=1)[:, -count, None]
    found = np.empty((len(scores_BI), count), dtype=np.int64)
    for number, (scores_I, possible_I) in enumerate(zip(scores_BI, scores_BI >= least_B1, strict=True)):
        places = np.flatnonzero(possible_I)
        found[number] = preferred_I[places[np.argsort(-scores_I[places], kind="stable")[:count]]]
    return found


def best_of_sparse(
    scores_BI: Any, histories: RaggedRows, count: int, preferred_I: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return what `best_of_dense` returns; `scores_BI` is a csr_matrix of scores above zero."""
    item_count = len(preferred_I)
    count = min(count, item_count)
    place_I = np.empty(item_count, dtype=np.int64)
    place_I[preferred_I] = np.arange(item_count)
    taken_I = np.zeros(item_count, dtype=np.bool_)
    found = np.empty((len(histories), count), dtype=np.int64)
    for number in range(len(histories)):
        seen = histories[number]
        stored = slice(scores_BI.indptr[number], scores_BI.indptr[number + 1])
        rows, scores = scores_BI.indices[stored], scores_BI.data[stored]
        taken_I[seen] = True
        unseen = ~taken_I[rows]
        rows, scores = rows[unseen], scores[unseen]
        if len(rows) > count:
            possible = scores >= np.partition(scores, -count)[-count]
            rows, scores = rows[possible], scores[possible]
        rows = rows[np.lexsort((place_I[rows], -scores))[:count]]
        taken_I[rows] = True
        # Then what has no score, in the preferred order, and what was seen.
        others = preferred_I[: count + len(seen)]
        taken = taken_I[others]
        seen_last = preferred_I[np.sort(place_I[np.unique(seen)])]
        found[number] = np.concatenate([rows, others[~taken], seen_last])[:count]
        taken_I[seen] = taken_I[rows] = False
    return found
