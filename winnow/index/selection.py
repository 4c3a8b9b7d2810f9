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

# Scores held at once: 16 MiB, however many rows match and however many queries there are.
BLOCK_SCORES = 4 * 1024 * 1024
# Numbers of the vectors that are copied together at once: 512 KiB stay in a core's second-level cache.
BLOCK_NUMBERS = 128 * 1024


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


def without(rows: Rows, left_out: Rows) -> Rows:
    """The rows that are not left out, in their order."""
    return rows[~np.isin(rows, left_out)] if len(left_out) else rows


@torch.inference_mode()
def scan_rows(item_vectors_IH: Tensor, user_BH: Tensor, query: RetrievalQuery, rows: Rows) -> Candidates:
    """Return the best of some rows [R], ascending and none twice, for each query: however many, exactly."""
    device = item_vectors_IH.device
    user_BH = user_BH.to(device)
    query_count, width = user_BH.shape
    most = min(int(query.counts.max(initial=0)), len(rows))
    excluded_queries, excluded_positions = _excluded_positions(query.exclusions, rows)
    best_scores_BK = user_BH.new_empty(query_count, 0)
    best_positions_BK = torch.empty(query_count, 0, dtype=torch.long, device=device)
    rows_at_once = max(BLOCK_SCORES // max(query_count, 1), most, 1)
    rows_in_cache = max(BLOCK_NUMBERS // width, 1)
    for start in range(0, len(rows), rows_at_once):
        block = torch.from_numpy(rows[start : start + rows_at_once]).to(device)
        parts = [user_BH @ item_vectors_IH.index_select(0, part).T for part in torch.split(block, rows_in_cache)]
        scores_BJ = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
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
    return cut_to_counts(
        rows[best_positions_BK.cpu().numpy()].astype(np.int64), best_scores_BK.cpu().numpy(), query.counts
    )


def cut_to_counts(rows_BK: NDArray[np.int64], scores_BK: NDArray[np.float32], counts: NDArray[np.int32]) -> Candidates:
    """Turn rectangular results, best first, into ragged ones. A score of -inf marks a row that is excluded or missing.

    `counts`, [B], says how many rows of each query are kept at most.
    """
    query_count, most = rows_BK.shape
    if most and (counts == most).all() and (scores_BK[:, -1] > -np.inf).all():
        # The usual case: every query asked for the same number, and got it.
        rows = RaggedRows(rows_BK.astype(np.int32).reshape(-1), np.arange(0, query_count * most + 1, most))
        return Candidates(rows, scores_BK.astype(np.float32, copy=False).reshape(-1))
    kept_BK = (np.arange(rows_BK.shape[1]) < counts[:, None]) & (scores_BK > -np.inf)
    rows = RaggedRows.from_lengths(rows_BK[kept_BK].astype(np.int32), kept_BK.sum(axis=1))
    return Candidates(rows, scores_BK[kept_BK].astype(np.float32, copy=False))


def _excluded_positions(exclusions: RaggedRows, rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The positions in `rows` of what is excluded, and the query of each."""
    queries = np.repeat(np.arange(len(exclusions)), exclusions.lengths)
    positions = np.searchsorted(rows, exclusions.rows)
    there = positions < len(rows)
    there[there] = rows[positions[there]] == exclusions.rows[there]
    return queries[there], positions[there]
