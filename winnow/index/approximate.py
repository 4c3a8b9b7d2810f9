"""Approximate search: FAISS scans the lists nearest to the user vector, the best of them are scored exactly.

Shape legend: B queries, I items, H width of a vector, K rows that FAISS returns for a query.
"""

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from winnow.history import RaggedRows
from winnow.index.exact import ExactIndex, cut_to_counts
from winnow.index.protocol import Retrieved

# FAISS's k-means asks for at least 39 vectors a list; more cost time and gain nothing measurable.
TRAINING_VECTORS_PER_LIST = 40
# Vectors handed to FAISS at once while building: bounds the copy it makes.
BLOCK_ITEMS = 65_536


class ApproximateIndex:
    """Inverted lists of vectors in 8 bits a dimension (FAISS IVF, SQ8): a quarter of the memory and of the bandwidth.

    Exclusions are honoured by asking FAISS for as many rows more as a query excludes, in the same search: then enough
    remain, whichever of them it finds. Where the scanned lists together hold too few items, that query is answered by a
    full scan. So a list is never shorter than asked while items remain.
    """

    def __init__(self, index: Any, item_vectors_IH: Tensor, probe_count: int) -> None:
        """Search a faiss.IndexIVFScalarQuantizer with `probe_count` lists a query; it was built from `item_vectors_IH`.

        Raises ValueError where the two do not fit together.
        """
        if (index.ntotal, index.d) != tuple(item_vectors_IH.shape):
            raise ValueError(f"the index holds {index.ntotal} vectors of width {index.d}, "
                             f"the network has {tuple(item_vectors_IH.shape)}")  # fmt: skip
        self._index = index
        self._item_vectors_IH = item_vectors_IH.detach()
        self._exact = ExactIndex(item_vectors_IH)
        self.probe_count = probe_count

    @classmethod
    def build(cls, item_vectors_IH: Tensor, list_count: int) -> "ApproximateIndex":
        """Cluster the vectors into lists, all of them scanned until `probe_count` is set. Deterministic."""
        item_vectors_IH = item_vectors_IH.detach()
        item_count, width = item_vectors_IH.shape
        generator = torch.Generator().manual_seed(0)
        sample = torch.randperm(item_count, generator=generator)[: TRAINING_VECTORS_PER_LIST * list_count]
        index = faiss.index_factory(width, f"IVF{list_count},SQ8", faiss.METRIC_INNER_PRODUCT)
        index.train(item_vectors_IH[sample].numpy())
        for start in range(0, item_count, BLOCK_ITEMS):
            index.add(item_vectors_IH[start : start + BLOCK_ITEMS].numpy())
        return cls(index, item_vectors_IH, list_count)

    @classmethod
    def open(cls, path: Path, item_vectors_IH: Tensor, probe_count: int) -> "ApproximateIndex":
        """Map what `save` wrote into memory: pages are read when searched. Raises ValueError where it is not that.

        FAISS parses what it is given without defence: the file's hash has to be checked before.
        """
        index: Any
        try:
            index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP)
        except RuntimeError as error:
            raise ValueError(f"{path.name} is not an index: {error}") from error
        if not isinstance(index, faiss.IndexIVFScalarQuantizer):
            raise ValueError(f"{path.name} holds a {type(index).__name__}")
        # FAISS would start 32 threads a search to fetch pages ahead: six times slower once they are in memory.
        lists: Any = index.invlists
        mapped: Any = faiss.downcast_InvertedLists(lists)
        mapped.prefetch_nthread = 0
        return cls(index, item_vectors_IH, probe_count)

    def save(self, path: Path) -> None:
        """Write the lists; not the vectors themselves, which the network's file has. Raises OSError."""
        try:
            faiss.write_index(self._index, str(path))
        except RuntimeError as error:
            raise OSError(f"{path} cannot be written: {str(error).splitlines()[0]}") from error

    @property
    def list_count(self) -> int:
        """How many lists there are."""
        return int(self._index.nlist)

    @property
    def exact(self) -> bool:
        """Never."""
        return False

    @torch.inference_mode()
    def search(self, user_BH: Tensor, counts: NDArray[np.int32], exclusions: RaggedRows) -> Retrieved:
        """See CandidateIndex.search. Uses as many threads as torch does."""
        user_BH = user_BH.cpu()
        found_BK = self._nearest(user_BH, counts, exclusions)
        usable_BK = (found_BK >= 0) & ~_excluded(found_BK, exclusions, self._index.ntotal)
        usable_BK &= usable_BK.cumsum(axis=1) <= counts[:, None]
        retrieved = self._score(user_BH, found_BK, usable_BK, counts)
        short_B = retrieved.rows.lengths < counts
        return self._completed(retrieved, short_B, user_BH, counts, exclusions) if short_B.any() else retrieved

    def found_in_lists(self, user_BH: Tensor, count: int) -> RaggedRows:
        """Return up to `count` rows a query from the scanned lists alone: what tuning judges, without any full scan."""
        counts = np.full(len(user_BH), count, dtype=np.int32)
        found_BK = self._nearest(user_BH.cpu(), counts, RaggedRows.from_lists([[]] * len(user_BH)))
        return RaggedRows.from_lengths(found_BK[found_BK >= 0].astype(np.int32), (found_BK >= 0).sum(axis=1))

    def _nearest(self, user_BH: Tensor, counts: NDArray[np.int32], exclusions: RaggedRows) -> NDArray[np.int64]:
        """Ask FAISS for enough rows for every query, [B, K]; -1 where the scanned lists hold no more."""
        # Of the calling thread, as torch's setting is: threads of a process may differ.
        faiss.omp_set_num_threads(torch.get_num_threads())
        most = min(int((counts + exclusions.lengths).max(initial=1)), self._index.ntotal)
        parameters: Any = faiss.SearchParametersIVF()
        parameters.nprobe = self.probe_count
        _, found_BK = self._index.search(user_BH.numpy(), most, params=parameters)
        return np.asarray(found_BK)

    def _score(
        self, user_BH: Tensor, found_BK: NDArray[np.int64], usable_BK: NDArray[np.bool_], counts: NDArray[np.int32]
    ) -> Retrieved:
        """Score what is usable exactly and sort it. One query at a time: its vectors stay in the core's cache."""
        scores_BK = torch.full(found_BK.shape, -torch.inf)
        rows_BK = torch.from_numpy(found_BK)
        usable_rows = RaggedRows.from_lengths(found_BK[usable_BK].astype(np.int32), usable_BK.sum(axis=1))
        mask_BK = torch.from_numpy(usable_BK)
        for query, user_H in enumerate(user_BH):
            vectors_CH = self._item_vectors_IH.index_select(0, torch.from_numpy(usable_rows[query]))
            scores_BK[query, mask_BK[query]] = vectors_CH @ user_H
        scores_BK, order_BK = scores_BK.sort(descending=True)
        return cut_to_counts(rows_BK.gather(1, order_BK).numpy(), scores_BK.numpy(), counts)

    def _completed(
        self,
        retrieved: Retrieved,
        short_B: NDArray[np.bool_],
        user_BH: Tensor,
        counts: NDArray[np.int32],
        exclusions: RaggedRows,
    ) -> Retrieved:
        """Replace lists that are too short, though items remain, by those of a full scan."""
        rows, scores = [], []
        for query, short in enumerate(short_B.tolist()):
            start, end = retrieved.rows.offsets[query : query + 2]
            best = Retrieved(retrieved.rows.slice(query, query + 1), retrieved.scores[start:end])
            if short and end - start < self._index.ntotal - len(np.unique(exclusions[query])):
                one = slice(query, query + 1)
                best = self._exact.search(user_BH[one], counts[one], exclusions.slice(query, query + 1))
            rows.append(best.rows)
            scores.append(best.scores)
        return Retrieved(RaggedRows.concatenate(rows), np.concatenate(scores))


def _excluded(found_BK: NDArray[np.int64], exclusions: RaggedRows, item_count: int) -> NDArray[np.bool_]:
    """Which of the found rows the query excludes, [B, K]."""
    if not len(exclusions.rows):
        return np.zeros(found_BK.shape, dtype=bool)
    # A query and a row as one number: all queries are looked up in one sorted array.
    queries_B = np.arange(len(exclusions)) * item_count
    excluded = np.sort(np.repeat(queries_B, exclusions.lengths) + exclusions.rows)
    keys_BK = queries_B[:, None] + found_BK
    positions_BK = np.minimum(np.searchsorted(excluded, keys_BK), len(excluded) - 1)
    hits_BK: NDArray[np.bool_] = excluded[positions_BK] == keys_BK
    return hits_BK
