"""Search in inverted lists for rows that match a filter: as many lists as hold enough of them.

Shape legend: B queries, L lists, P lists that are scanned for a query at most, K rows that FAISS returns for a query.
"""

from typing import Any

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from winnow.catalogue.filters.compiler import CompiledFilter
from winnow.index.selection import Selection

ID_BYTES = 8
# A filtered search scans lists until they hold so many matching rows, relative to all rows that an unfiltered search
# scans. Recall is above .95 with it: see `python -m benchmarks.filtered_search`.
MATCHES_PER_SCANNED_ROW = 0.58
# Up to so many bytes, matching rows are copied into lists of their own: there, one is compared in 30 nanoseconds, and
# picked out of the lists of all rows in 200.
LARGEST_COPY_BYTES = 32 * 2**20


class FilteredLists:
    """The lists of a faiss.IndexIVFScalarQuantizer, and which of them hold the matches of a filter."""

    def __init__(self, index: Any) -> None:
        self._index = index
        quantizer: Any = faiss.downcast_index(index.quantizer)
        lists: Any = index.invlists
        self._sizes_L = np.array([lists.list_size(number) for number in range(index.nlist)])
        self._centroids_LH = torch.from_numpy(quantizer.reconstruct_n(0, index.nlist))

    def select(self, compiled: CompiledFilter) -> Selection:
        """Count the matches of each list, and copy them if they are not too many."""
        mask = compiled.mask()
        counts_L = np.zeros(self._index.nlist, dtype=np.int64)
        copy_bytes = compiled.match_count * (self._index.code_size + ID_BYTES)
        copy = self._empty_copy() if copy_bytes <= LARGEST_COPY_BYTES else None
        lists: Any = self._index.invlists
        for number in range(self._index.nlist):
            size = lists.list_size(number)
            if not size:
                continue
            ids = faiss.rev_swig_ptr(lists.get_ids(number), size)
            matching = np.flatnonzero(mask[ids])
            counts_L[number] = len(matching)
            if copy is not None and len(matching):
                codes = faiss.rev_swig_ptr(lists.get_codes(number), size * self._index.code_size).reshape(size, -1)
                kept_ids, kept_codes = ids[matching], codes[matching]
                copy.invlists.add_entries(number, len(matching), faiss.swig_ptr(kept_ids), faiss.swig_ptr(kept_codes))
        if copy is not None:
            copy.ntotal = compiled.match_count
        return Selection(
            compiled=compiled, list_counts=counts_L, copy=copy, copy_bytes=copy_bytes if copy is not None else 0
        )

    def nearest(
        self, user_BH: Tensor, counts: NDArray[np.integer], selection: Selection, probe_count: int
    ) -> NDArray[np.int64]:
        """Ask FAISS for `counts` matching rows, [B], for every query: [B, K]; -1 where the scanned lists hold no more.

        H is the width of the vectors in the lists. `probe_count` is how many lists an unfiltered search scans.
        """
        faiss.omp_set_num_threads(torch.get_num_threads())
        counts_L = selection.list_counts
        if counts_L is None:
            raise AssertionError("the selection is not one of lists")
        nearness_BL = user_BH @ self._centroids_LH.T
        wanted_B = self._wanted_matches(nearness_BL, selection, counts_L, probe_count)
        nearness_BP, lists_BP = self._nearest_lists(nearness_BL, counts_L, wanted_B)
        matches_BP = counts_L[lists_BP]
        enough_BP = matches_BP.cumsum(axis=1) - matches_BP >= wanted_B[:, None]
        # FAISS skips lists with a negative number.
        lists_BP[enough_BP | (matches_BP == 0)] = -1
        most = min(int(counts.max(initial=1)), selection.compiled.match_count)
        return self._search(user_BH, np.ascontiguousarray(lists_BP), nearness_BP, most, selection)

    def _empty_copy(self) -> Any:
        index = self._index
        copy: Any = faiss.IndexIVFScalarQuantizer(
            index.quantizer, index.d, index.nlist, index.sq.qtype, index.metric_type, index.by_residual
        )
        copy.own_fields = False
        copy.sq = index.sq
        copy.is_trained = True
        return copy

    def _search(
        self,
        user_BH: Tensor,
        lists_BP: NDArray[np.int64],
        nearness_BP: NDArray[np.float32],
        most: int,
        selection: Selection,
    ) -> NDArray[np.int64]:
        """Scan the given lists of each query for matching rows. FAISS's Python method does not take a selector."""
        users = np.ascontiguousarray(user_BH.numpy())
        found_BK = np.empty((len(users), most), dtype=np.int64)
        scores_BK = np.empty((len(users), most), dtype=np.float32)
        bitmap = selection.compiled.bitmap
        selector = faiss.IDSelectorBitmap(len(bitmap), faiss.swig_ptr(bitmap))
        parameters: Any = faiss.SearchParametersIVF()
        parameters.nprobe = lists_BP.shape[1]
        if selection.copy is None:
            parameters.sel = selector
        index = self._index if selection.copy is None else selection.copy
        index.search_preassigned_c(
            len(users),
            faiss.swig_ptr(users),
            most,
            faiss.swig_ptr(lists_BP),
            faiss.swig_ptr(nearness_BP),
            faiss.swig_ptr(scores_BK),
            faiss.swig_ptr(found_BK),
            False,
            parameters,
        )
        return found_BK

    def _wanted_matches(
        self, nearness_BL: Tensor, selection: Selection, counts_L: NDArray[np.int64], probe_count: int
    ) -> NDArray[np.float64]:
        """How many matching rows the scanned lists of each query have to hold, [B].

        Where fewer rows match near the user than elsewhere, the best matches are spread over many lists.
        """
        share = selection.compiled.match_count / self._index.ntotal
        near_BP = nearness_BL.topk(min(probe_count, len(counts_L))).indices.numpy()
        share_near_B = counts_L[near_BP].sum(axis=1) / np.maximum(self._sizes_L[near_BP].sum(axis=1), 1)
        sparseness_B = share / np.maximum(share_near_B, 1 / self._index.ntotal)
        scanned = MATCHES_PER_SCANNED_ROW * probe_count * self._index.ntotal / self._index.nlist
        if selection.copy is not None:
            return np.asarray(scanned * np.maximum(sparseness_B, 1))
        # The fewer match, the more lists are scanned, and the more evenly do the best matches lie in them.
        return np.asarray(scanned * share**0.5 * np.maximum(sparseness_B, sparseness_B**-0.5))

    def _nearest_lists(
        self, nearness_BL: Tensor, counts_L: NDArray[np.int64], wanted_B: NDArray[np.float64]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The nearest lists of each query, [B, P], with enough matches; all lists where that takes most of them."""
        list_count = len(counts_L)
        probes = min(list_count, int(2 * wanted_B.max() * list_count / max(int(counts_L.sum()), 1)) + 1)
        while True:
            nearness_BP, lists_BP = nearness_BL.topk(probes)
            lists = lists_BP.numpy()
            if probes == list_count or (counts_L[lists].sum(axis=1) >= wanted_B).all():
                return np.ascontiguousarray(nearness_BP.numpy()), lists
            probes = min(list_count, 4 * probes)
