"""A filter as an index searches it, and the scan of the few rows that it matches.

Shape legend: B queries, I items, H width of a vector, R rows that match, J of these in one block, K the largest count.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from winnow.catalogue.filters.compiler import CompiledFilter
from winnow.history import RaggedRows, Rows
from winnow.queries import Candidates, RetrievalQuery

# Vectors copied together at once: 4,096 of 256 numbers are 4 MiB.
BLOCK_ROWS = 4_096


@dataclass(frozen=True, kw_only=True, eq=False)
class Selection:
    """The rows that match a filter."""

    compiled: CompiledFilter
    rows: Rows | None = None
    """They themselves, ascending, where there are few enough to be scored one by one."""
    list_counts: NDArray[np.int64] | None = None
    """How many of them are in each inverted list, where there are such and the rows are many."""

    @property
    def size_bytes(self) -> int:
        """The memory that it takes."""
        kept = (array.nbytes for array in (self.rows, self.list_counts) if array is not None)
        return self.compiled.size_bytes + sum(kept)


@torch.inference_mode()
def scan_rows(item_vectors_IH: Tensor, user_BH: Tensor, query: RetrievalQuery, rows: Rows) -> Candidates:
    """Return the best of some rows [R], ascending and none twice, for each query: however many, exactly."""
    device = item_vectors_IH.device
    user_BH = user_BH.to(device)
    query_count = len(query)
    most = min(int(query.counts.max(initial=0)), len(rows))
    best_scores_BK = user_BH.new_empty(query_count, 0)
    best_positions_BK = torch.empty(query_count, 0, dtype=torch.long, device=device)
    excluded_queries, excluded_positions = _excluded_positions(query.exclusions, rows)
    for start in range(0, len(rows), BLOCK_ROWS):
        block = torch.from_numpy(rows[start : start + BLOCK_ROWS]).to(device)
        scores_BJ = user_BH @ item_vectors_IH.index_select(0, block).T
        here = (excluded_positions >= start) & (excluded_positions < start + len(block))
        if here.any():
            scores_BJ[
                torch.from_numpy(excluded_queries[here]).to(device),
                torch.from_numpy(excluded_positions[here] - start).to(device),
            ] = -torch.inf
        scores_BK, positions_BK = scores_BJ.topk(min(most, len(block)))
        best_scores_BK = torch.cat([best_scores_BK, scores_BK], dim=1)
        best_positions_BK = torch.cat([best_positions_BK, positions_BK + start], dim=1)
        if best_scores_BK.shape[1] > most:
            best_scores_BK, kept_BK = best_scores_BK.topk(most)
            best_positions_BK = best_positions_BK.gather(1, kept_BK)
    rows_BK = rows[best_positions_BK.cpu().numpy()]
    scores_BK_found = best_scores_BK.cpu().numpy()
    kept = (np.arange(rows_BK.shape[1]) < query.counts[:, None]) & (scores_BK_found > -np.inf)
    found = RaggedRows.from_lengths(rows_BK[kept].astype(np.int32), kept.sum(axis=1))
    return Candidates(found, scores_BK_found[kept].astype(np.float32, copy=False))


def _excluded_positions(exclusions: RaggedRows, rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The positions in `rows` of what is excluded, and the query of each."""
    queries = np.repeat(np.arange(len(exclusions)), exclusions.lengths)
    positions = np.searchsorted(rows, exclusions.rows)
    there = positions < len(rows)
    there[there] = rows[positions[there]] == exclusions.rows[there]
    return queries[there], positions[there]
