"""Chooses and tunes the index of a catalogue: once, when a release is written.

Shape legend: B user vectors, I items, H width of a vector, K the recall depth.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from winnow.history import RaggedRows
from winnow.index.approximate import ApproximateIndex
from winnow.index.exact import ExactIndex
from winnow.index.inverted_lists import fit_lists, principal_components
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
# With four times the root of the catalogue, choosing lists takes less time than scanning them, at every size.
LISTS_PER_ROOT = 4
# Parts of the width that the lists may hold. Memory grows with it.
WIDTH_SHARES = (0.25, 0.375, 0.5)
# How much of the recall that the target gives away may be lost to fewer dimensions: the rest is for unscanned lists.
WIDTH_LOSS_SHARE = 0.5
# How many rows are scored exactly for each that is wanted while a width is judged.
WIDTH_OVERSAMPLING = 2
# Fewer than so many best rows of a sample say little.
SMALLEST_SAMPLE_DEPTH = 10
# What may be scored exactly for each row that is wanted.
ROWS_SCORED_FOR_EACH = (2, 3, 4, 5, 6, 8)
# CPU time of scoring a row exactly, relative to a row of a list (both in a catalogue of a million: 200 and 3 ns).
COST_OF_EXACT_SCORE = 60


@dataclass(frozen=True, kw_only=True, eq=False)
class Choice:
    """An index and its recall."""

    index: ExactIndex | ApproximateIndex
    recall_at_200: float
    """Share of the true best 200 that it finds, averaged over the tuning queries; 1 for a full scan."""
    tuned_on_query_count: int = 0


def choose_index(item_vectors_IH: Tensor, tuning_user_BH: Tensor, target_recall: float = TARGET_RECALL) -> Choice:
    """Return inverted lists that reach the target recall on the given queries; a full scan for a small catalogue.

    A full scan too where all lists together do not reach it, and for vectors that are too large for lists.

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
    if not fit_lists(item_vectors_IH):
        return Choice(index=ExactIndex(item_vectors_IH), recall_at_200=1.0)
    width_of_lists = narrowest_width(item_vectors_IH, tuning_user_BH, target_recall)
    index = ApproximateIndex.build(item_vectors_IH, list_count(item_count), width_of_lists)
    recall = tune(index, item_vectors_IH, tuning_user_BH, target_recall)
    if recall < target_recall:
        # All lists together do not find enough: four bits a dimension are too few for these vectors.
        return Choice(index=ExactIndex(item_vectors_IH), recall_at_200=1.0)
    return Choice(index=index, recall_at_200=recall, tuned_on_query_count=len(tuning_user_BH))


def list_count(item_count: int) -> int:
    """Return the power of two nearest to four times the root of the catalogue's size."""
    return int(2 ** round(np.log2(LISTS_PER_ROOT * item_count**0.5)))


def narrowest_width(item_vectors_IH: Tensor, user_BH: Tensor, target_recall: float) -> int:
    """Return how many principal components find nearly all of the best items, if all lists are scanned.

    Judged on a sample of the items, in which as large a share is wanted as of all.
    """
    item_count, width = item_vectors_IH.shape
    sample_NH = item_vectors_IH[:: max(1, item_count // COMPONENT_SAMPLE)]
    depth = max(SMALLEST_SAMPLE_DEPTH, round(RECALL_DEPTH * len(sample_NH) / item_count))
    query = RetrievalQuery.without_histories(np.full(len(user_BH), depth, dtype=np.int32))
    true = ExactIndex(sample_NH).search(user_BH, query).rows
    wider = RetrievalQuery.without_histories(query.counts * WIDTH_OVERSAMPLING)
    components_HH = principal_components(sample_NH)
    for share in WIDTH_SHARES:
        components_HW = components_HH[:, : max(1, int(share * width))]
        found = ExactIndex(sample_NH @ components_HW).search(user_BH @ components_HW, wider).rows
        if recall_of_each(found, true).mean() >= 1 - WIDTH_LOSS_SHARE * (1 - target_recall):
            return components_HW.shape[1]
    return width


def tune(index: ApproximateIndex, item_vectors_IH: Tensor, user_BH: Tensor, target_recall: float) -> float:
    """Set how many lists are scanned and how many of their rows are scored exactly, and return the mean recall.

    Of the pairs that reach the target by two standard errors, the one that takes least time; if none does, all lists
    and most rows.
    """
    query = RetrievalQuery.without_histories(np.full(len(user_BH), RECALL_DEPTH, dtype=np.int32))
    true = ExactIndex(item_vectors_IH).search(user_BH, query).rows
    depth_B = true.lengths
    recalls_by_probe_count: dict[int, NDArray[np.float64]] = {}

    def recalls(probe_count: int) -> NDArray[np.float64]:
        """Recall of each query for each of ROWS_SCORED_FOR_EACH, [B, R]."""
        if probe_count not in recalls_by_probe_count:
            index.probe_count = probe_count
            # From the lists alone: where these hold too few items, `search` scans all, whose recall is 1.
            found_BK = index.found_in_lists(user_BH, RECALL_DEPTH * ROWS_SCORED_FOR_EACH[-1])
            hits_BK = np.stack([np.isin(found, true[query]) for query, found in enumerate(found_BK)])
            hits_BR = hits_BK.cumsum(axis=1)[:, np.minimum(depths_R, hits_BK.shape[1]) - 1]
            recalls_by_probe_count[probe_count] = hits_BR / depth_B[:, None]
        return recalls_by_probe_count[probe_count]

    def reached(probe_count: int, position: int) -> bool:
        recall_B = recalls(probe_count)[:, position]
        return bool(recall_B.mean() - 2 * recall_B.std() / len(recall_B) ** 0.5 >= target_recall)

    depths_R = RECALL_DEPTH * np.array(ROWS_SCORED_FOR_EACH)
    rows_of_a_list = len(item_vectors_IH) / index.list_count
    best_cost, best = np.inf, (index.list_count, len(ROWS_SCORED_FOR_EACH) - 1)
    for position, rows in enumerate(ROWS_SCORED_FOR_EACH):
        if not reached(index.list_count, position):
            continue
        probe_count = smallest(lambda count, position=position: reached(count, position), index.list_count)  # type: ignore[misc]
        cost = probe_count * rows_of_a_list + rows * RECALL_DEPTH * COST_OF_EXACT_SCORE
        if cost < best_cost:
            best_cost, best = cost, (probe_count, position)
    index.probe_count, index.rows_scored_for_each = best[0], ROWS_SCORED_FOR_EACH[best[1]]
    return float(recalls(best[0])[:, best[1]].mean())


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
