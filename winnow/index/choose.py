"""Chooses and tunes the index of a catalogue: once, when a release is written.

Shape legend: B user vectors, I items, H width of a vector, K the recall depth.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from winnow.history import RaggedRows
from winnow.index.approximate import OVERSAMPLING, ApproximateIndex, principal_components
from winnow.index.exact import ExactIndex
from winnow.queries import RetrievalQuery

# Up to this many numbers a full scan is as fast: 65,536 items of 256, 262,144 of 64 (benchmarks/RESULTS.md, growth).
LARGEST_EXACT_TABLE = 16 * 1024 * 1024
# Vectors from which principal components are computed.
COMPONENT_SAMPLE = 65_536
# How many candidates a request retrieves by default.
RECALL_DEPTH = 200
# A ranker whose order has nothing in common with the candidates' keeps .93 of its true best 20 at a recall of .96, and
# .96 at .98 (measured on the paper-sized synthetic catalogue). A ranker that agrees with them more keeps more.
TARGET_RECALL = 0.98
# With twice the root of the catalogue, scanning lists and choosing between them cost about the same.
LISTS_PER_ROOT = 2
# Parts of the width that the lists may hold. The time to scan a list grows with it.
WIDTH_SHARES = (0.25, 0.375, 0.5)
# How much of the recall that the target gives away may be lost to fewer dimensions: the rest is for unscanned lists.
WIDTH_LOSS_SHARE = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class Choice:
    """An index and its recall."""

    index: ExactIndex | ApproximateIndex
    recall_at_200: float
    """Share of the true best 200 that it finds, averaged over the tuning queries; 1 for a full scan."""
    tuned_on_query_count: int = 0


def choose_index(item_vectors_IH: Tensor, tuning_user_BH: Tensor, target_recall: float = TARGET_RECALL) -> Choice:
    """Return inverted lists that reach the target recall on the given queries; a full scan for a small catalogue.

    A full scan too where all lists together do not reach it.

    The mean recall exceeds the target by two standard errors, so that other queries reach it too. Give a few hundred
    queries: the fewer there are, the more lists are scanned. Raises ValueError where a large catalogue comes without
    any.
    """
    item_count, width = item_vectors_IH.shape
    if item_count * width <= LARGEST_EXACT_TABLE:
        return Choice(index=ExactIndex(item_vectors_IH), recall_at_200=1.0)
    if not len(tuning_user_BH):
        raise ValueError(f"an index over {item_count} items has to be tuned on user vectors: there are none")
    item_vectors_IH, tuning_user_BH = item_vectors_IH.detach().cpu(), tuning_user_BH.cpu()
    width_of_lists = narrowest_width(item_vectors_IH, tuning_user_BH, target_recall)
    index = ApproximateIndex.build(item_vectors_IH, list_count(item_count), width_of_lists)
    recall = tune(index, item_vectors_IH, tuning_user_BH, target_recall)
    if recall < target_recall:
        # All lists together do not find enough: eight bits a dimension are too few for these vectors.
        return Choice(index=ExactIndex(item_vectors_IH), recall_at_200=1.0)
    return Choice(index=index, recall_at_200=recall, tuned_on_query_count=len(tuning_user_BH))


def list_count(item_count: int) -> int:
    """Return the power of two nearest to twice the root of the catalogue's size."""
    return int(2 ** round(np.log2(LISTS_PER_ROOT * item_count**0.5)))


def narrowest_width(item_vectors_IH: Tensor, user_BH: Tensor, target_recall: float) -> int:
    """Return how many principal components find nearly all of the best items, if all lists are scanned."""
    width = item_vectors_IH.shape[1]
    query = RetrievalQuery.without_histories(np.full(len(user_BH), RECALL_DEPTH, dtype=np.int32))
    true = ExactIndex(item_vectors_IH).search(user_BH, query).rows
    wider = RetrievalQuery.without_histories(query.counts * OVERSAMPLING)
    components_HH = principal_components(item_vectors_IH[:: max(1, len(item_vectors_IH) // COMPONENT_SAMPLE)])
    for share in WIDTH_SHARES:
        components_HW = components_HH[:, : max(1, int(share * width))]
        found = ExactIndex(item_vectors_IH @ components_HW).search(user_BH @ components_HW, wider).rows
        if recall_of_each(found, true).mean() >= 1 - WIDTH_LOSS_SHARE * (1 - target_recall):
            return components_HW.shape[1]
    return width


def tune(index: ApproximateIndex, item_vectors_IH: Tensor, user_BH: Tensor, target_recall: float) -> float:
    """Set the smallest `probe_count` that reaches the target by two standard errors; return the mean recall."""
    query = RetrievalQuery.without_histories(np.full(len(user_BH), RECALL_DEPTH, dtype=np.int32))
    true = ExactIndex(item_vectors_IH).search(user_BH, query).rows

    def recalls(probe_count: int) -> NDArray[np.float64]:
        index.probe_count = probe_count
        # From the lists alone: where these hold too few items, `search` scans all, whose recall is 1.
        return recall_of_each(index.found_in_lists(user_BH, RECALL_DEPTH), true)

    def reached(probe_count: int) -> bool:
        recall_B = recalls(probe_count)
        return bool(recall_B.mean() - 2 * recall_B.std() / len(recall_B) ** 0.5 >= target_recall)

    probe_count = smallest(reached, index.list_count)
    return float(recalls(probe_count).mean())


def smallest(reached: Callable[[int], bool], limit: int) -> int:
    """Return the smallest number in 1..limit that reaches, given that larger ones do too; `limit` if none does."""
    high = 1
    while high < limit and not reached(high):
        high = min(2 * high, limit)
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        if reached(middle):
            high = middle
        else:
            low = middle
    return high


def recall_of_each(found: RaggedRows, true: RaggedRows) -> NDArray[np.float64]:
    """Return, for each query, the share of the true rows that were found."""
    return np.array([np.isin(true[query], found[query]).mean() for query in range(len(true))])
