"""Approximate search: the nearest inverted lists are scanned, and the best of their rows are scored exactly.

Shape legend: B queries, I items, H width of a vector, K rows that the lists give for a query.
"""

from pathlib import Path

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from winnow.catalogue.filters.compiler import CompiledFilter
from winnow.history import NO_ROWS, RaggedRows, Rows
from winnow.index.exact import ExactIndex
from winnow.index.inverted_lists import InvertedLists
from winnow.index.selection import Selection, cut_to_counts, without
from winnow.queries import Candidates, RetrievalQuery

# Up to so many rows that match a filter are scored one by one: exactly, in less time than a search in lists takes.
LARGEST_SCANNED_SELECTION = 3_000
# The same as a share of the catalogue: a row takes 150 times as long to score exactly as in a list, and a filter that
# matches few has most lists scanned.
LARGEST_SCANNED_SHARE = 1 / 300
# How many rows are scored exactly for each that is wanted, until this is tuned. With fewer than two, an answer would
# depend on the other queries of a batch: the lists give rows of equal scores in any order.
OVERSAMPLING = 4


class ApproximateIndex:
    """Inverted lists that name the rows to look at, and the network's own vectors, by which these are scored.

    The lists are asked for several times as many rows as are wanted, and for as many more as a query excludes, so that
    enough remain whichever of them it finds. A query for which the scanned lists hold too few items is answered by a
    full scan. So no list is shorter than asked while items remain.
    """

    def __init__(
        self,
        lists: InvertedLists,
        item_vectors_IH: Tensor,
        probe_count: int,
        rows_scored_for_each: int = OVERSAMPLING,
        retired: Rows = NO_ROWS,
    ) -> None:
        """Search what `build` made from `item_vectors_IH`, float32: `probe_count` lists for a query.

        So many rows are scored exactly for each that is wanted. Rows that are `retired`, ascending, have been removed
        from the lists. Raises ValueError where lists and vectors do not fit together.
        """
        count, width = lists.shape
        if (count + len(retired), width) != tuple(item_vectors_IH.shape):
            raise ValueError(f"the index holds {count} vectors of width {width}, "
                             f"the network has {tuple(item_vectors_IH.shape)}")  # fmt: skip
        self._lists = lists
        self._item_vectors_IH = item_vectors_IH.detach().contiguous()
        self._exact = ExactIndex(item_vectors_IH, retired)
        self._retired = retired
        self.probe_count = probe_count
        self.rows_scored_for_each = rows_scored_for_each
        self.full_scan_count = 0

    @classmethod
    def build(cls, item_vectors_IH: Tensor, list_count: int, width: int | None = None) -> "ApproximateIndex":
        """Cluster the vectors, or their first `width` principal components, into lists. Deterministic.

        All lists are scanned until `probe_count` is set.
        """
        item_vectors_IH = item_vectors_IH.detach()
        return cls(InvertedLists.build(item_vectors_IH, list_count, width), item_vectors_IH, list_count)

    @classmethod
    def open(
        cls,
        path: Path,
        item_vectors_IH: Tensor,
        probe_count: int,
        rows_scored_for_each: int = OVERSAMPLING,
        retired: Rows = NO_ROWS,
    ) -> "ApproximateIndex":
        """Read the lists that `save` wrote; the vectors may be mapped. Raises ValueError for any other file.

        Retired items are removed from the lists in memory, so that a search costs nothing more. FAISS does not defend
        itself against a file made to harm it: check the file's hash first.
        """
        lists = InvertedLists.read(path)
        if len(retired):
            lists.remove(retired)
        return cls(lists, item_vectors_IH, probe_count, rows_scored_for_each, retired)

    def save(self, path: Path) -> None:
        """Write the lists, without the float32 vectors: the network's file has them. Raises OSError."""
        self._lists.write(path)

    @staticmethod
    def update(path: Path, target: Path, rows: NDArray[np.int64], vectors_NH: Tensor) -> None:
        """Write to `target` what `save` wrote to `path`, with other vectors for some rows, which may be new.

        The lists stay as they are: each vector goes to the nearest one. Raises ValueError for any other file, and
        OSError.
        """
        lists = InvertedLists.read(path)
        lists.replace(rows, vectors_NH.detach())
        lists.write(target)

    @property
    def list_count(self) -> int:
        """How many lists there are."""
        return self._lists.list_count

    @property
    def exact(self) -> bool:
        """Never."""
        return False

    @torch.inference_mode()
    def search(self, user_BH: Tensor, query: RetrievalQuery) -> Candidates:
        """See CandidateIndex.search. Uses as many threads as torch does."""
        user_BH = user_BH.cpu()
        found_BK = self._lists.nearest(user_BH, self._asked_of_lists(query), self.probe_count)
        return self._complete(self._best(user_BH, found_BK, query), user_BH, query)

    def select(self, compiled: CompiledFilter) -> Selection:
        """See CandidateIndex.select."""
        compiled = compiled.without(self._retired)
        if compiled.match_count <= max(LARGEST_SCANNED_SELECTION, LARGEST_SCANNED_SHARE * compiled.item_count):
            return Selection(compiled=compiled, rows=compiled.rows())
        return self._lists.select(compiled)

    @torch.inference_mode()
    def search_selected(self, user_BH: Tensor, query: RetrievalQuery, selection: Selection) -> Candidates:
        """See CandidateIndex.search_selected."""
        if selection.rows is not None:
            return self._exact.search_selected(user_BH.cpu(), query, selection)
        user_BH = user_BH.cpu()
        found_BK = self._lists.nearest(user_BH, self._asked_of_lists(query), self.probe_count, selection)
        return self._complete(self._best(user_BH, found_BK, query), user_BH, query, selection)

    def search_rows(self, user_BH: Tensor, query: RetrievalQuery, rows: Rows) -> Candidates:
        """See CandidateIndex.search_rows."""
        return self._exact.search_rows(user_BH.cpu(), query, rows)

    def found_in_lists(self, user_BH: Tensor, count: int) -> NDArray[np.int64]:
        """Return the best `count` rows by the lists alone, [B, count], for tuning; -1 where there are no more."""
        counts = np.full(len(user_BH), count, dtype=np.int64)
        return self._lists.nearest(user_BH.cpu(), counts, self.probe_count)

    def _asked_of_lists(self, query: RetrievalQuery) -> NDArray[np.int64]:
        """How many rows are enough for each query, [B], even if all that it excludes are among them."""
        return query.counts.astype(np.int64) * self.rows_scored_for_each + query.exclusions.lengths

    def _best(self, user_BH: Tensor, found_BK: NDArray[np.int64], query: RetrievalQuery) -> Candidates:
        """Score what the lists gave, as far as it is asked for and not excluded, and sort it."""
        usable_BK = (found_BK >= 0) & ~_excluded(found_BK, query.exclusions, len(self._item_vectors_IH))
        usable_BK &= usable_BK.cumsum(axis=1) <= query.counts[:, None] * self.rows_scored_for_each
        rows_BK = np.where(usable_BK, found_BK, -1)
        scores_BK = np.empty(rows_BK.shape, dtype=np.float32)
        users, vectors = np.ascontiguousarray(user_BH.numpy()), self._item_vectors_IH.numpy()
        # Reads the vectors where they are, and skips rows of -1. FAISS's type stubs do not have it.
        faiss.fvec_inner_products_by_idx(  # type: ignore[attr-defined]
            faiss.swig_ptr(scores_BK),
            faiss.swig_ptr(users),
            faiss.swig_ptr(vectors),
            faiss.swig_ptr(rows_BK),
            vectors.shape[1],
            *rows_BK.shape,
        )
        scores_BK[~usable_BK] = -np.inf
        best = min(int(query.counts.max(initial=0)), rows_BK.shape[1])
        best_BK, order_BK = torch.from_numpy(scores_BK).topk(best)
        return cut_to_counts(np.take_along_axis(rows_BK, order_BK.numpy(), axis=1), best_BK.numpy(), query.counts)

    def _complete(
        self,
        candidates: Candidates,
        user_BH: Tensor,
        query: RetrievalQuery,
        selection: Selection | None = None,
    ) -> Candidates:
        """Replace each list that is too short although items remain by that of a full scan."""
        short_B = candidates.rows.lengths < query.counts
        if not short_B.any():
            return candidates
        parts = candidates.split([1] * len(query))
        for position in np.flatnonzero(short_B).tolist():
            excluded = query.exclusions.slice(position, position + 1)
            one = RetrievalQuery.without_histories(query.counts[position : position + 1], excluded)
            user_1H = user_BH[position : position + 1]
            rows = without(np.unique(excluded.rows), self._retired)
            if selection is None:
                if len(parts[position].scores) < self._lists.shape[0] - len(rows):
                    parts[position] = self._exact.search(user_1H, one)
                    self.full_scan_count += 1
            elif len(parts[position].scores) < selection.compiled.match_count - selection.compiled.matches(rows).sum():
                parts[position] = self._exact.search_selected(user_1H, one, selection)
                self.full_scan_count += 1
        return Candidates.concatenate(parts)


def _excluded(found_BK: NDArray[np.int64], exclusions: RaggedRows, item_count: int) -> NDArray[np.bool_]:
    """Which of the found rows the query excludes, [B, K]."""
    if not len(exclusions.rows):
        return np.zeros(found_BK.shape, dtype=bool)
    # Query and row as one number, so that all queries are looked up in one sorted array.
    queries_B = np.arange(len(exclusions)) * item_count
    excluded = np.sort(np.repeat(queries_B, exclusions.lengths) + exclusions.rows)
    keys_BK = queries_B[:, None] + found_BK
    positions_BK = np.minimum(np.searchsorted(excluded, keys_BK), len(excluded) - 1)
    hits_BK: NDArray[np.bool_] = excluded[positions_BK] == keys_BK
    return hits_BK
