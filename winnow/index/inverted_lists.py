"""Inverted lists in 4 bits a dimension: made from vectors, and searched for the rows that may be a query's best.

Shape legend: B queries, I items, H width of a vector, W width in the lists, L lists, P lists that are scanned for a
query at most, K rows that are returned for a query.
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
from winnow.index.selection import Selection

# With half as many vectors and five rounds, a query has to scan more lists. More than these take longer.
TRAINING_VECTORS_PER_LIST = 20
TRAINING_ROUNDS = 6
CODE_BITS = 4
# Vectors handed to FAISS at once while building: bounds the copies that it makes.
BLOCK_ITEMS = 65_536
# Neighbours of a list in the graph that assigns vectors to lists, and how many lists it keeps in view.
GRAPH_NEIGHBOURS, GRAPH_BREADTH = 32, 16
# A filtered search scans lists until they hold so many matching rows, relative to all rows that an unfiltered search
# scans. Recall is above .95 with it: see `python -m benchmarks.filtered_search`.
MATCHES_PER_SCANNED_ROW = 0.58
# The fewer match, the more lists are scanned, and the more evenly do the best matches lie in them.
MATCHES_EXPONENT = 0.6


# The squares of larger ones are no float32, and FAISS then ends the process.
LARGEST_NORM = 1e18


def fit_lists(vectors_NH: Tensor) -> bool:
    """Whether vectors are finite, and small enough for lists."""
    return bool(torch.linalg.vector_norm(vectors_NH.detach(), dim=1).le(LARGEST_NORM).all())


class InvertedLists:
    """A faiss.IndexIVFPQFastScan over principal components.

    A vector is in the list whose centroid is nearest, and a query scans the lists whose centroids have the largest
    inner products with it. (FAISS by itself would assign vectors by inner product too. Long centroids then attract most
    of them: a query has to scan three times as many rows.) A list holds what its vectors differ from its centroid by,
    in 4 bits a dimension. Sixteen values fit a register, so that 32 rows are scored at a time.
    """

    def __init__(self, index: Any) -> None:
        """Wrap a faiss.IndexPreTransform. Raises ValueError for any other index."""
        inner: Any = faiss.downcast_index(index.index) if isinstance(index, faiss.IndexPreTransform) else index
        if inner is index or not isinstance(inner, faiss.IndexIVFPQFastScan):
            raise ValueError(f"a {type(index).__name__} of {type(inner).__name__} and not inverted lists")
        self._index = index
        self._lists: Any = inner
        self._projection: Any = faiss.downcast_VectorTransform(index.chain.at(0))
        quantizer: Any = faiss.downcast_index(inner.quantizer)
        self._centroids_LW = torch.from_numpy(quantizer.reconstruct_n(0, inner.nlist))

    @classmethod
    def build(cls, item_vectors_IH: Tensor, list_count: int, width: int | None = None) -> "InvertedLists":
        """Cluster the vectors by their first `width` principal components. Deterministic.

        Raises ValueError unless they `fit_lists`.
        """
        if not fit_lists(item_vectors_IH):
            raise ValueError(f"a vector is not finite, or longer than {LARGEST_NORM:g}")
        item_count, full_width = item_vectors_IH.shape
        faiss.omp_set_num_threads(torch.get_num_threads())
        order = torch.randperm(item_count, generator=torch.Generator().manual_seed(0))
        # A codebook needs as many vectors as it has values, even if some repeat.
        training_count = max(TRAINING_VECTORS_PER_LIST * list_count, 2**CODE_BITS)
        sample = order[torch.arange(min(training_count, max(item_count, 2**CODE_BITS))) % item_count]
        sample_NH = item_vectors_IH[sample]
        components_HW = principal_components(sample_NH)[:, :width]
        projection: Any = faiss.LinearTransform(full_width, components_HW.shape[1], False)
        faiss.copy_array_to_vector(components_HW.T.contiguous().numpy().ravel(), projection.A)
        projection.is_trained = True
        lists, quantizer = _trained(projection.apply(sample_NH.numpy()), list_count)
        lists.quantizer = graph = _graph(quantizer)
        for start in range(0, item_count, BLOCK_ITEMS):
            lists.add(projection.apply(item_vectors_IH[start : start + BLOCK_ITEMS].numpy()))
        lists.quantizer = quantizer
        del graph
        return cls(faiss.IndexPreTransform(projection, lists))

    @classmethod
    def read(cls, path: Path) -> "InvertedLists":
        """Read what `write` wrote. Raises ValueError for any other file.

        FAISS does not defend itself against a file made to harm it: check the file's hash first.
        """
        try:
            index: Any = faiss.read_index(str(path))
        except RuntimeError as error:
            raise ValueError(f"not an index: {error}") from error
        return cls(index)

    def write(self, path: Path) -> None:
        """Write the lists, without the vectors in full. Raises OSError."""
        try:
            faiss.write_index(self._index, str(path))
        except RuntimeError as error:
            raise OSError(f"{path} cannot be written: {str(error).splitlines()[0]}") from error

    @property
    def shape(self) -> tuple[int, int]:
        """How many vectors there are, and their width in full."""
        return int(self._index.ntotal), int(self._index.d)

    @property
    def list_count(self) -> int:
        """How many lists there are."""
        return int(self._lists.nlist)

    def remove(self, rows: NDArray[np.integer]) -> None:
        """Remove rows, as far as they are there."""
        self._index.remove_ids(rows.astype(np.int64))

    def replace(self, rows: NDArray[np.int64], vectors_NH: Tensor) -> None:
        """Set the vectors of some rows, which may be new: each goes to the nearest list, and the lists stay.

        Raises ValueError unless they `fit_lists`.
        """
        if not fit_lists(vectors_NH):
            raise ValueError(f"a vector is not finite, or longer than {LARGEST_NORM:g}")
        self.remove(rows)
        self._index.add_with_ids(vectors_NH.contiguous().numpy(), rows)

    def select(self, compiled: CompiledFilter) -> Selection:
        """Count the matches of each list."""
        lists = self._list_of_each_row[compiled.rows()]
        return Selection(compiled=compiled, list_counts=np.bincount(lists, minlength=self.list_count))

    def nearest(
        self, user_BH: Tensor, counts: NDArray[np.integer], probe_count: int, selection: Selection | None = None
    ) -> NDArray[np.int64]:
        """Return `counts` rows for every query, [B, K], best first; -1 where the scanned lists hold no more.

        `probe_count` lists are scanned. With a selection only its rows are returned, and the lists are as many as it
        takes.
        """
        # A setting of the calling thread, like torch's own: threads of one process may differ.
        faiss.omp_set_num_threads(torch.get_num_threads())
        user_BW = torch.from_numpy(self._projection.apply(user_BH.numpy()))
        nearness_BL = user_BW @ self._centroids_LW.T
        if selection is None:
            nearness_BP, lists_BP = (found.numpy() for found in nearness_BL.topk(min(probe_count, self.list_count)))
            available = self._index.ntotal
        else:
            nearness_BP, lists_BP = self._lists_with_matches(nearness_BL, selection, probe_count)
            available = selection.compiled.match_count
        most = min(int(counts.max(initial=1)), available)
        return self._scan(user_BW.numpy(), lists_BP, nearness_BP, most, selection)

    @cached_property
    def _list_of_each_row(self) -> NDArray[np.int32]:
        """[I]; of a row that is in no list, whatever. Made when the first filter comes: not every service has any."""
        ids_of_lists = [self._ids(number) for number in range(self.list_count)]
        rows = max((int(ids.max()) for ids in ids_of_lists if len(ids)), default=-1)
        lists = np.zeros(rows + 1, dtype=np.int32)
        for number, ids in enumerate(ids_of_lists):
            lists[ids] = number
        return lists

    @cached_property
    def _sizes_L(self) -> NDArray[np.int64]:
        return np.array([self._lists.get_list_size(number) for number in range(self.list_count)])

    def _ids(self, number: int) -> NDArray[np.int64]:
        size = self._lists.get_list_size(number)
        ids = faiss.rev_swig_ptr(self._lists.invlists.get_ids(number), size) if size else np.empty(0, dtype=np.int64)
        return np.asarray(ids)

    def _scan(
        self,
        user_BW: NDArray[np.float32],
        lists_BP: NDArray[np.int64],
        nearness_BP: NDArray[np.float32],
        most: int,
        selection: Selection | None,
    ) -> NDArray[np.int64]:
        """Scan the given lists of each query. FAISS's Python method does not take parameters."""
        users, lists, nearness = (np.ascontiguousarray(array) for array in (user_BW, lists_BP, nearness_BP))
        found_BK = np.full((len(users), most), -1, dtype=np.int64)
        scores_BK = np.empty((len(users), most), dtype=np.float32)
        parameters: Any = faiss.SearchParametersIVF()
        parameters.nprobe = lists.shape[1]
        if selection is not None:
            bitmap = selection.compiled.bitmap
            selector = faiss.IDSelectorBitmap(len(bitmap), faiss.swig_ptr(bitmap))
            parameters.sel = selector
        if most and len(users):
            self._lists.search_preassigned_c(
                len(users),
                faiss.swig_ptr(users),
                most,
                faiss.swig_ptr(lists),
                faiss.swig_ptr(nearness),
                faiss.swig_ptr(scores_BK),
                faiss.swig_ptr(found_BK),
                False,
                parameters,
            )
        return found_BK

    def _lists_with_matches(
        self, nearness_BL: Tensor, selection: Selection, probe_count: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The nearest lists of each query, [B, P], until they hold enough matches, and the inner products with them."""
        counts_L = selection.list_counts
        if counts_L is None:
            raise AssertionError("the selection is not one of lists")
        wanted_B = self._wanted_matches(nearness_BL, selection, counts_L, probe_count)
        nearness_BP, lists_BP = _nearest_lists(nearness_BL, counts_L, wanted_B)
        matches_BP = counts_L[lists_BP]
        unneeded_BP = (matches_BP.cumsum(axis=1) - matches_BP >= wanted_B[:, None]) | (matches_BP == 0)
        # FAISS skips lists with a negative number. Their inner products still widen the range in which it keeps scores,
        # and how many there are depends on the other queries.
        lists_BP = np.where(unneeded_BP, -1, lists_BP)
        first_B1 = (~unneeded_BP).argmax(axis=1)[:, None]
        nearness_BP = np.where(unneeded_BP, np.take_along_axis(nearness_BP, first_B1, axis=1), nearness_BP)
        return nearness_BP, lists_BP

    def _wanted_matches(
        self, nearness_BL: Tensor, selection: Selection, counts_L: NDArray[np.int64], probe_count: int
    ) -> NDArray[np.float64]:
        """How many matching rows the scanned lists of each query have to hold, [B].

        Where fewer rows match near the user than elsewhere, the best matches are spread over many lists.
        """
        total = max(int(self._index.ntotal), 1)
        share = selection.compiled.match_count / total
        near_BP = nearness_BL.topk(min(probe_count, len(counts_L))).indices.numpy()
        share_near_B = counts_L[near_BP].sum(axis=1) / np.maximum(self._sizes_L[near_BP].sum(axis=1), 1)
        sparseness_B = share / np.maximum(share_near_B, 1 / total)
        scanned = MATCHES_PER_SCANNED_ROW * probe_count * total / len(counts_L)
        return np.asarray(
            scanned * share**MATCHES_EXPONENT * np.maximum(sparseness_B, np.maximum(sparseness_B, 1e-9) ** -0.5)
        )


def _trained(sample_NW: NDArray[np.float32], list_count: int) -> tuple[Any, Any]:
    """Empty lists, and the index of their centroids, which has to be kept as long as they are."""
    width = sample_NW.shape[1]
    clustering = faiss.Kmeans(width, list_count, niter=TRAINING_ROUNDS, min_points_per_centroid=1, seed=0)
    clustering.train(sample_NW)
    quantizer: Any = faiss.IndexFlatL2(width)
    quantizer.add(clustering.centroids)
    lists: Any = faiss.IndexIVFPQFastScan(quantizer, width, list_count, width, CODE_BITS, faiss.METRIC_INNER_PRODUCT)
    lists.by_residual = True
    lists.pq.cp.min_points_per_centroid = 1
    lists.train(sample_NW)
    return lists, quantizer


def _graph(quantizer: Any) -> Any:
    """A graph that finds the nearest centroid in a fraction of the time."""
    graph: Any = faiss.IndexHNSWFlat(quantizer.d, GRAPH_NEIGHBOURS)
    graph.hnsw.efSearch = GRAPH_BREADTH
    # With several threads the graph would depend on their order.
    faiss.omp_set_num_threads(1)
    graph.add(quantizer.reconstruct_n(0, quantizer.ntotal))
    faiss.omp_set_num_threads(torch.get_num_threads())
    return graph


def _nearest_lists(
    nearness_BL: Tensor, counts_L: NDArray[np.int64], wanted_B: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The nearest lists of each query, [B, P], with enough matches; all lists where that takes most of them."""
    list_count = len(counts_L)
    probes = min(list_count, int(2 * wanted_B.max(initial=0) * list_count / max(int(counts_L.sum()), 1)) + 1)
    while True:
        nearness_BP, lists_BP = nearness_BL.topk(probes)
        lists = lists_BP.numpy()
        if probes == list_count or (counts_L[lists].sum(axis=1) >= wanted_B).all():
            return nearness_BP.numpy(), lists
        probes = min(list_count, 4 * probes)


def principal_components(vectors_NH: Tensor) -> Tensor:
    """Return the directions in which vectors are largest, [H, H], largest first: an orthogonal matrix.

    The vectors are not centred: inner products, not distances, are to be kept.
    """
    vectors_NH = vectors_NH.detach().double()
    components_HH: Tensor = torch.linalg.eigh(vectors_NH.T @ vectors_NH).eigenvectors
    return components_HH.flip(1).float()
