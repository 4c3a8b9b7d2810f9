"""Search in inverted lists for rows that match a filter: as many lists as hold enough of them.

Shape legend: B queries, L lists, P lists that are scanned for a query at most, K rows that FAISS returns for a query.
"""

from typing import Any

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from winnow.index.selection import Selection

# A filtered search scans lists until they hold so many matching rows, relative to all rows that an unfiltered search
# scans, times the root of the share of items that match: the fewer do, the more evenly do the best of them lie in the
# lists. Recall is above .95 with it (`python -m benchmarks.filtered_search`).
MATCHES_PER_SCANNED_ROW = 0.55


class FilteredLists:
    """The lists of a faiss.IndexIVF, and which of them hold the matches of a filter."""

    def __init__(self, index: Any) -> None:
        self._index = index
        quantizer: Any = faiss.downcast_index(index.quantizer)
        self._centroids_LH = torch.from_numpy(quantizer.reconstruct_n(0, index.nlist))
        self.list_of_row = _list_of_row(index)
        """The list that each row is in, [I]."""

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
        share = selection.compiled.match_count / self._index.ntotal
        wanted = MATCHES_PER_SCANNED_ROW * share**0.5 * probe_count * self._index.ntotal / self._index.nlist
        nearness_BL = user_BH @ self._centroids_LH.T
        nearness_BP, lists_BP = self._nearest_lists(nearness_BL, counts_L, wanted)
        matches_BP = counts_L[lists_BP]
        enough_BP = matches_BP.cumsum(axis=1) - matches_BP >= wanted
        # FAISS skips lists with a negative number.
        lists_BP[enough_BP | (matches_BP == 0)] = -1
        most = min(int(counts.max(initial=1)), selection.compiled.match_count)
        return self._search(user_BH, np.ascontiguousarray(lists_BP), nearness_BP, most, selection.compiled.bitmap)

    def _search(
        self,
        user_BH: Tensor,
        lists_BP: NDArray[np.int64],
        nearness_BP: NDArray[np.float32],
        most: int,
        bitmap: NDArray[np.uint8],
    ) -> NDArray[np.int64]:
        """Scan the given lists of each query for rows of the bitmap. FAISS's Python method does not take a selector."""
        users = np.ascontiguousarray(user_BH.numpy())
        found_BK = np.empty((len(users), most), dtype=np.int64)
        scores_BK = np.empty((len(users), most), dtype=np.float32)
        selector = faiss.IDSelectorBitmap(len(bitmap), faiss.swig_ptr(bitmap))
        parameters: Any = faiss.SearchParametersIVF()
        parameters.nprobe = lists_BP.shape[1]
        parameters.sel = selector
        self._index.search_preassigned_c(
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

    def _nearest_lists(
        self, nearness_BL: Tensor, counts_L: NDArray[np.int64], wanted: float
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The nearest lists of each query, [B, P], with enough matches; all lists where that takes most of them."""
        list_count = len(counts_L)
        probes = min(list_count, int(2 * wanted * list_count / max(int(counts_L.sum()), 1)) + 1)
        while True:
            nearness_BP, lists_BP = nearness_BL.topk(probes)
            lists = lists_BP.numpy()
            if probes == list_count or (counts_L[lists].sum(axis=1) >= wanted).all():
                return np.ascontiguousarray(nearness_BP.numpy()), lists
            probes = min(list_count, 4 * probes)


def _list_of_row(index: Any) -> NDArray[np.int32]:
    lists: Any = index.invlists
    found = np.empty(index.ntotal, dtype=np.int32)
    for number in range(index.nlist):
        size = lists.list_size(number)
        if size:
            found[faiss.rev_swig_ptr(lists.get_ids(number), size)] = number
    return found
