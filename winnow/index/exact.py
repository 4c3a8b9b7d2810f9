"""Exact search: a matrix product and a top-k, block by block, on any device.

Shape legend: B queries, I items, H width of a vector, K the largest count asked, J the items of one block.
"""

import numpy as np
import torch
from torch import Tensor

from winnow.catalogue.filters.compiler import CompiledFilter
from winnow.history import NO_ROWS, RaggedRows, Rows
from winnow.index.selection import Selection, cut_to_counts, scan_rows, without
from winnow.queries import Candidates, RetrievalQuery

# Scores held at once: 16 M float32 are 64 MiB, however large the catalogue and the batch.
BLOCK_SCORES = 16 * 1024 * 1024
# Up to this share of the items, those that match a filter are copied together and scored: that takes less than scoring
# all of them where they are.
LARGEST_GATHERED_SHARE = 0.1


class ExactIndex:
    """Scans every item. Memory is bounded by `block_scores`, not by the size of the catalogue."""

    def __init__(self, item_vectors_IH: Tensor, retired: Rows = NO_ROWS, block_scores: int = BLOCK_SCORES) -> None:
        """Rows that are `retired`, ascending, are never found."""
        self._item_vectors_IH = item_vectors_IH.detach()
        self._retired = retired
        self._retired_mask_I: Tensor | None = None
        if len(retired):
            self._retired_mask_I = torch.zeros(len(item_vectors_IH), dtype=torch.bool, device=item_vectors_IH.device)
            self._retired_mask_I[torch.from_numpy(retired).to(item_vectors_IH.device, torch.long)] = True
        self._block_scores = block_scores

    @property
    def exact(self) -> bool:
        """Always: nothing is approximated."""
        return True

    @property
    def full_scan_count(self) -> int:
        """See CandidateIndex.full_scan_count."""
        return 0

    @torch.inference_mode()
    def search(self, user_BH: Tensor, query: RetrievalQuery) -> Candidates:
        """See CandidateIndex.search."""
        return self._scan(user_BH, query, self._retired_mask_I)

    def select(self, compiled: CompiledFilter) -> Selection:
        """See CandidateIndex.select."""
        compiled = compiled.without(self._retired)
        few = compiled.match_count <= LARGEST_GATHERED_SHARE * compiled.item_count
        return Selection(compiled=compiled, rows=compiled.rows() if few else None)

    @torch.inference_mode()
    def search_selected(self, user_BH: Tensor, query: RetrievalQuery, selection: Selection) -> Candidates:
        """See CandidateIndex.search_selected."""
        if selection.rows is not None:
            return scan_rows(self._item_vectors_IH, user_BH, query, selection.rows)
        return self._scan(user_BH, query, torch.from_numpy(~selection.compiled.mask()))

    def search_rows(self, user_BH: Tensor, query: RetrievalQuery, rows: Rows) -> Candidates:
        """See CandidateIndex.search_rows."""
        return scan_rows(self._item_vectors_IH, user_BH, query, without(rows, self._retired))

    def _scan(self, user_BH: Tensor, query: RetrievalQuery, left_out_I: Tensor | None = None) -> Candidates:
        """Scan all rows; those of the mask are left out for every query."""
        counts, exclusions = query.counts, query.exclusions
        item_count = len(self._item_vectors_IH)
        query_count = len(user_BH)
        if not query_count:
            return Candidates(RaggedRows.empty(0), np.empty(0, dtype=np.float32))
        device = self._item_vectors_IH.device
        most = min(int(counts.max()), item_count)

        block_items = max(self._block_scores // query_count, most, 1)
        if item_count <= block_items:
            # Small catalogues, where every operation counts: one block, nothing to merge.
            scores_BI = user_BH @ self._item_vectors_IH.T
            firsts = np.repeat(np.arange(0, query_count * item_count, item_count), exclusions.lengths)
            if left_out_I is not None:
                scores_BI.masked_fill_(left_out_I.to(device), -torch.inf)
            scores_BI.view(-1).index_fill_(0, torch.from_numpy(firsts + exclusions.rows).to(device), -torch.inf)
            best_scores_BK, best_rows_BK = scores_BI.topk(most)
            return cut_to_counts(best_rows_BK.cpu().numpy(), best_scores_BK.cpu().numpy(), counts)

        excluded_rows = torch.from_numpy(exclusions.rows).to(device, torch.long)
        excluded_queries = torch.from_numpy(np.repeat(np.arange(query_count), exclusions.lengths)).to(device)
        best_scores_BK = user_BH.new_empty(query_count, 0)
        best_rows_BK = torch.empty(query_count, 0, dtype=torch.long, device=device)
        for start in range(0, item_count, block_items):
            scores_BJ = user_BH @ self._item_vectors_IH[start : start + block_items].T
            here = (excluded_rows >= start) & (excluded_rows < start + scores_BJ.shape[1])
            scores_BJ[excluded_queries[here], excluded_rows[here] - start] = -torch.inf
            if left_out_I is not None:
                scores_BJ.masked_fill_(left_out_I[start : start + block_items].to(device), -torch.inf)
            scores_BK, rows_BK = scores_BJ.topk(min(most, scores_BJ.shape[1]))
            best_scores_BK = torch.cat([best_scores_BK, scores_BK], dim=1)
            best_rows_BK = torch.cat([best_rows_BK, rows_BK + start], dim=1)
            if best_scores_BK.shape[1] > most:
                best_scores_BK, positions_BK = best_scores_BK.topk(most)
                best_rows_BK = best_rows_BK.gather(1, positions_BK)
        return cut_to_counts(best_rows_BK.cpu().numpy(), best_scores_BK.cpu().numpy(), counts)
