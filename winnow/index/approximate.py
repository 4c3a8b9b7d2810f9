"""Approximate search: FAISS scans the lists nearest to the user vector, the best of them are scored exactly.

Shape legend: B queries, I items, H width of a vector, W width in the lists, K rows that FAISS returns for a query.
"""

from functools import cached_property
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from winnow.catalogue.filters.compiler import CompiledFilter
from winnow.history import NO_ROWS, RaggedRows, Rows
from winnow.index.exact import ExactIndex
from winnow.index.filtered_lists import FilteredLists
from winnow.index.selection import Selection, cut_to_counts, without
from winnow.queries import Candidates, RetrievalQuery

# FAISS's k-means asks for at least 39 vectors a list. More take longer and gain nothing measurable.
TRAINING_VECTORS_PER_LIST = 40
# Up to so many rows that match a filter are scored one by one: exactly, in less time than an unfiltered search.
LARGEST_SCANNED_SELECTION = 3_000
# Vectors handed to FAISS at once while building: bounds the copy it makes.
BLOCK_ITEMS = 65_536
# How many rows are scored exactly for each that is wanted, where the lists hold vectors of fewer dimensions.
OVERSAMPLING = 2


class ApproximateIndex:
    """Inverted lists of vectors in 8 bits a dimension (FAISS IVF, SQ8): a quarter of the memory and of the bandwidth.

    The lists hold the vectors' W principal components, which are all of them or, where that suffices, fewer: then more
    rows are scored exactly. FAISS is asked for as many further rows as a query excludes, in the same search, so that
    enough remain whichever of them it finds. A query for which the scanned lists hold too few items is answered by a
    full scan. So no list is shorter than asked while items remain.
    """

    def __init__(self, index: Any, item_vectors_IH: Tensor, probe_count: int, retired: Rows = NO_ROWS) -> None:
        """Wrap what `build` made from `item_vectors_IH`; a query scans `probe_count` lists.

        Rows that are `retired`, ascending, have been removed from it. Raises ValueError where index and vectors do not
        fit together.
        """
        if (index.ntotal + len(retired), index.d) != tuple(item_vectors_IH.shape):
            raise ValueError(f"the index holds {index.ntotal} vectors of width {index.d}, "
                             f"the network has {tuple(item_vectors_IH.shape)}")  # fmt: skip
        self._index = index
        self._lists: Any = faiss.downcast_index(index.index)
        self._projection: Any = faiss.downcast_VectorTransform(index.chain.at(0))
        self._rows_scored_for_each = OVERSAMPLING if self._lists.d < index.d else 1
        self._item_vectors_IH = item_vectors_IH.detach()
        self._exact = ExactIndex(item_vectors_IH, retired)
        self._retired = retired
        self.probe_count = probe_count
        self.full_scan_count = 0

    @classmethod
    def build(cls, item_vectors_IH: Tensor, list_count: int, width: int | None = None) -> "ApproximateIndex":
        """Cluster the vectors, or their first `width` principal components, into lists. Deterministic.

        All lists are scanned until `probe_count` is set.
        """
        item_vectors_IH = item_vectors_IH.detach()
        item_count, full_width = item_vectors_IH.shape
        generator = torch.Generator().manual_seed(0)
        sample = torch.randperm(item_count, generator=generator)[: TRAINING_VECTORS_PER_LIST * list_count]
        components_HW = principal_components(item_vectors_IH[sample])[:, :width]
        projection = faiss.LinearTransform(full_width, components_HW.shape[1], False)
        faiss.copy_array_to_vector(components_HW.T.contiguous().numpy().ravel(), projection.A)
        projection.is_trained = True
        lists = faiss.index_factory(projection.d_out, f"IVF{list_count},SQ8", faiss.METRIC_INNER_PRODUCT)
        index = faiss.IndexPreTransform(projection, lists)
        index.train(item_vectors_IH[sample].numpy())
        for start in range(0, item_count, BLOCK_ITEMS):
            index.add(item_vectors_IH[start : start + BLOCK_ITEMS].numpy())
        return cls(index, item_vectors_IH, list_count)

    @classmethod
    def open(cls, path: Path, item_vectors_IH: Tensor, probe_count: int, retired: Rows = NO_ROWS) -> "ApproximateIndex":
        """Map a file that `save` wrote into memory: pages are read when searched. Raises ValueError for any other file.

        Where items are retired, the lists are read into memory as a whole and lose them, so that a search costs nothing
        more. FAISS does not defend itself against a file made to harm it: check the file's hash first.
        """
        index: Any
        try:
            index = faiss.read_index(str(path), 0 if len(retired) else faiss.IO_FLAG_MMAP)
        except RuntimeError as error:
            raise ValueError(f"not an index: {error}") from error
        inner: Any = faiss.downcast_index(index.index) if isinstance(index, faiss.IndexPreTransform) else index
        if inner is index or not isinstance(inner, faiss.IndexIVFScalarQuantizer):
            raise ValueError(f"a {type(index).__name__} of {type(inner).__name__} and not inverted lists")
        if len(retired):
            index.remove_ids(retired.astype(np.int64))
            return cls(index, item_vectors_IH, probe_count, retired)
        # By default each search starts 32 threads that prefetch pages: six times slower once the pages are in memory.
        lists: Any = inner.invlists
        mapped: Any = faiss.downcast_InvertedLists(lists)
        mapped.prefetch_nthread = 0
        return cls(index, item_vectors_IH, probe_count)

    def save(self, path: Path) -> None:
        """Write the lists, without the float32 vectors: the network's file has them. Raises OSError."""
        _write(self._index, path)

    @staticmethod
    def update(path: Path, target: Path, rows: NDArray[np.int64], vectors_NH: Tensor) -> None:
        """Write to `target` what `save` wrote to `path`, with other vectors for some rows, which may be new.

        The lists stay as they are: each vector goes to the nearest one. Raises ValueError for any other file, and
        OSError.
        """
        try:
            index: Any = faiss.read_index(str(path))
        except RuntimeError as error:
            raise ValueError(f"not an index: {error}") from error
        index.remove_ids(rows)
        index.add_with_ids(vectors_NH.detach().contiguous().numpy(), rows)
        _write(index, target)

    @property
    def list_count(self) -> int:
        """How many lists there are."""
        return int(self._lists.nlist)

    @property
    def exact(self) -> bool:
        """Never."""
        return False

    @torch.inference_mode()
    def search(self, user_BH: Tensor, query: RetrievalQuery) -> Candidates:
        """See CandidateIndex.search. Uses as many threads as torch does."""
        user_BH = user_BH.cpu()
        candidates = self._best(user_BH, self._nearest(user_BH, query), query)
        return self._complete(candidates, user_BH, query)

    def select(self, compiled: CompiledFilter) -> Selection:
        """See CandidateIndex.select."""
        compiled = compiled.without(self._retired)
        if compiled.match_count <= LARGEST_SCANNED_SELECTION:
            return Selection(compiled=compiled, rows=compiled.rows())
        return self._filtered_lists.select(compiled)

    @torch.inference_mode()
    def search_selected(self, user_BH: Tensor, query: RetrievalQuery, selection: Selection) -> Candidates:
        """See CandidateIndex.search_selected."""
        if selection.rows is not None:
            return self._exact.search_selected(user_BH.cpu(), query, selection)
        user_BH = user_BH.cpu()
        counts = query.counts * self._rows_scored_for_each + query.exclusions.lengths
        user_BW = torch.from_numpy(self._projection.apply(user_BH.numpy()))
        found_BK = self._filtered_lists.nearest(user_BW, counts, selection, self.probe_count)
        return self._complete(self._best(user_BH, found_BK, query), user_BH, query, selection)

    def search_rows(self, user_BH: Tensor, query: RetrievalQuery, rows: Rows) -> Candidates:
        """See CandidateIndex.search_rows."""
        return self._exact.search_rows(user_BH.cpu(), query, rows)

    @cached_property
    def _filtered_lists(self) -> FilteredLists:
        """Made when the first filter comes: not every service has any."""
        return FilteredLists(self._lists)

    def _best(self, user_BH: Tensor, found_BK: NDArray[np.int64], query: RetrievalQuery) -> Candidates:
        """Score what FAISS has found, as far as it is asked for and not excluded."""
        usable_BK = (found_BK >= 0) & ~_excluded(found_BK, query.exclusions, len(self._item_vectors_IH))
        usable_BK &= usable_BK.cumsum(axis=1) <= query.counts[:, None] * self._rows_scored_for_each
        return self._score(user_BH, found_BK, usable_BK, query.counts)

    def found_in_lists(self, user_BH: Tensor, count: int) -> RaggedRows:
        """Return the rows among which `search` finds the best `count`, from the scanned lists alone, for tuning.

        `search` may add a full scan.
        """
        counts = np.full(len(user_BH), count, dtype=np.int32)
        found_BK = self._nearest(user_BH.cpu(), RetrievalQuery.without_histories(counts))
        return RaggedRows.from_lengths(found_BK[found_BK >= 0].astype(np.int32), (found_BK >= 0).sum(axis=1))

    def _nearest(self, user_BH: Tensor, query: RetrievalQuery) -> NDArray[np.int64]:
        """Ask FAISS for enough rows for every query, [B, K]; -1 where the scanned lists hold no more."""
        # A setting of the calling thread, like torch's own: threads of one process may differ.
        faiss.omp_set_num_threads(torch.get_num_threads())
        wanted_B = query.counts * self._rows_scored_for_each + query.exclusions.lengths
        most = min(int(wanted_B.max(initial=1)), self._index.ntotal)
        of_lists: Any = faiss.SearchParametersIVF()
        of_lists.nprobe = self.probe_count
        parameters: Any = faiss.SearchParametersPreTransform()
        parameters.index_params = of_lists
        _, found_BK = self._index.search(user_BH.numpy(), most, params=parameters)
        return np.asarray(found_BK)

    def _score(
        self, user_BH: Tensor, found_BK: NDArray[np.int64], usable_BK: NDArray[np.bool_], counts: NDArray[np.int32]
    ) -> Candidates:
        """Score the usable rows exactly and sort them. One query at a time: its vectors stay in the core's cache."""
        scores_BK = torch.full(found_BK.shape, -torch.inf)
        rows_BK = torch.from_numpy(found_BK)
        usable_rows = RaggedRows.from_lengths(found_BK[usable_BK].astype(np.int32), usable_BK.sum(axis=1))
        mask_BK = torch.from_numpy(usable_BK)
        for position, user_H in enumerate(user_BH):
            vectors_CH = self._item_vectors_IH.index_select(0, torch.from_numpy(usable_rows[position]))
            scores_BK[position, mask_BK[position]] = vectors_CH @ user_H
        scores_BK, order_BK = scores_BK.sort(descending=True)
        return cut_to_counts(rows_BK.gather(1, order_BK).numpy(), scores_BK.numpy(), counts)

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
                if len(parts[position].scores) < self._index.ntotal - len(rows):
                    parts[position] = self._exact.search(user_1H, one)
                    self.full_scan_count += 1
            elif len(parts[position].scores) < selection.compiled.match_count - selection.compiled.matches(rows).sum():
                parts[position] = self._exact.search_selected(user_1H, one, selection)
                self.full_scan_count += 1
        return Candidates.concatenate(parts)


def _write(index: Any, path: Path) -> None:
    try:
        faiss.write_index(index, str(path))
    except RuntimeError as error:
        raise OSError(f"{path} cannot be written: {str(error).splitlines()[0]}") from error


def principal_components(vectors_NH: Tensor) -> Tensor:
    """Return the directions in which vectors are largest, [H, H], largest first: an orthogonal matrix.

    The vectors are not centred: inner products, not distances, are to be kept.
    """
    vectors_NH = vectors_NH.detach().double()
    components_HH: Tensor = torch.linalg.eigh(vectors_NH.T @ vectors_NH).eigenvectors
    return components_HH.flip(1).float()


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
