"""The best candidates where the scores of some items are raised above their inner products: see Neighbours.

No index needs to know of it. Scores are raised and never lowered, so the best K items are among the best K by inner
product and those that are raised, of which a history has some thousands at most: these are scored one by one.

Shape legend: B queries, H width of a vector, T raised items and F found items of all queries together.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from winnow.history import RaggedRows, Rows
from winnow.index.restricted import SelectionOf
from winnow.index.selection import BLOCK_NUMBERS
from winnow.queries import Candidates, RetrievalQuery


@torch.inference_mode()
def with_raised(
    found: Candidates,
    raised: Candidates,
    user_BH: Tensor,
    item_vectors_IH: Tensor,
    query: RetrievalQuery,
    *,
    retired: Rows,
    selection_of: SelectionOf,
) -> Candidates:
    """Return the best candidates by the inner product plus what `raised` has for the item.

    `found` is what an index returned for the query by inner products alone; where it is exact, so is the answer. The
    rows of each list of `raised` rise, none is there twice, and the scores are above zero. `retired`, ascending, and
    what a query excludes or does not allow stay out.
    """
    item_count = len(item_vectors_IH)
    raised = _offered(raised, query, item_count, retired, selection_of)
    queries_T = np.repeat(np.arange(len(query)), raised.rows.lengths)
    queries_F = np.repeat(np.arange(len(query)), found.rows.lengths)
    scores_T = raised.scores + _inner_products(user_BH, item_vectors_IH, raised.rows)
    # What was found and is raised as well is in the answer once, with the larger score.
    keys_T, keys_F = queries_T * item_count + raised.rows.rows, queries_F * item_count + found.rows.rows
    at_F, again_F = _places(keys_T, keys_F)
    # No others can be in the answer than those that are at least as good as the last one found.
    kept_T = scores_T >= _least(found, query.counts)[queries_T]
    kept_T[at_F[again_F]] = True
    rows = np.concatenate([found.rows.rows[~again_F], raised.rows.rows[kept_T]])
    scores = np.concatenate([found.scores[~again_F], scores_T[kept_T]])
    queries = np.concatenate([queries_F[~again_F], queries_T[kept_T]])
    order = np.lexsort((-scores, queries))
    lengths = np.bincount(queries, minlength=len(query))
    places = np.arange(len(order)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    best = order[places < query.counts[queries[order]]]
    return Candidates(
        RaggedRows.from_lengths(rows[best], np.minimum(lengths, query.counts)), scores[best].astype(np.float32)
    )


def _offered(
    raised: Candidates, query: RetrievalQuery, item_count: int, retired: Rows, selection_of: SelectionOf
) -> Candidates:
    """Those that the query may return."""
    rows, offsets = raised.rows.rows, raised.rows.offsets
    offered_T = np.ones(len(rows), dtype=np.bool_)
    if len(retired):
        offered_T &= ~_places(retired, rows)[1]
    queries_T = np.repeat(np.arange(len(query)), raised.rows.lengths)
    excluded = np.repeat(np.arange(len(query)), query.exclusions.lengths) * item_count + query.exclusions.rows
    at, there = _places(queries_T * item_count + rows, excluded)
    offered_T[at[there]] = False
    for position, restriction in query.restrictions.items():
        of_query = slice(offsets[position], offsets[position + 1])
        if restriction.allowed is not None:
            offered_T[of_query] &= np.isin(rows[of_query], restriction.allowed)
        if restriction.filter:
            offered_T[of_query] &= selection_of(restriction.filter).compiled.matches(rows[of_query])
    lengths = np.bincount(queries_T[offered_T], minlength=len(query))
    return Candidates(RaggedRows.from_lengths(rows[offered_T], lengths), raised.scores[offered_T])


def _inner_products(user_BH: Tensor, item_vectors_IH: Tensor, rows: RaggedRows) -> NDArray[np.float32]:
    """The inner product of each row with the vector of its query, [T]."""
    rows_T = torch.from_numpy(rows.rows).to(item_vectors_IH.device)
    user_BH = user_BH.to(item_vectors_IH.device)
    products_T = user_BH.new_empty(len(rows_T))
    at_once = max(BLOCK_NUMBERS // item_vectors_IH.shape[1], 1)
    for query, (start, stop) in enumerate(zip(rows.offsets[:-1].tolist(), rows.offsets[1:].tolist(), strict=True)):
        for first in range(start, stop, at_once):
            block = slice(first, min(first + at_once, stop))
            torch.mv(item_vectors_IH.index_select(0, rows_T[block]), user_BH[query], out=products_T[block])
    return products_T.cpu().numpy()


def _places(keys_T: NDArray[np.integer], wanted: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where each wanted key is among rising ones, and whether it is there at all."""
    if not len(keys_T):
        return np.zeros(len(wanted), dtype=np.int64), np.zeros(len(wanted), dtype=np.bool_)
    at = np.minimum(np.searchsorted(keys_T, wanted), len(keys_T) - 1)
    return at, keys_T[at] == wanted


def _least(found: Candidates, counts: NDArray[np.int32]) -> NDArray[np.float32]:
    """The score of the last candidate of each query that has as many as it asked for, [B]; else no bound."""
    least_B = np.full(len(counts), -np.inf, dtype=np.float32)
    full_B = (found.rows.lengths == counts) & (counts > 0)
    least_B[full_B] = found.scores[found.rows.offsets[1:][full_B] - 1]
    return least_B
