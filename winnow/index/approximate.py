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

from winnow.history import RaggedRows, Rows
from winnow.index.exact import ExactIndex
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
        """Write the lists; not the vectors themselves, which the network's file has."""
        faiss.write_index(self._index, str(path))

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
        rows, scores = [], []
        for query, found_K in enumerate(self._nearest(user_BH, counts, exclusions)):
            count, excluded = int(counts[query]), exclusions[query]
            best_rows, best_scores = self._score(user_BH[query], _without(found_K, excluded), count)
            if len(best_rows) < min(count, self._index.ntotal - len(np.unique(excluded))):
                best = self._exact.search(
                    user_BH[query : query + 1], counts[query : query + 1], exclusions.slice(query, query + 1)
                )
                best_rows, best_scores = best.rows.rows, best.scores
            rows.append(best_rows)
            scores.append(best_scores)
        return Retrieved(RaggedRows.from_lists(rows), np.concatenate([*scores, np.empty(0, dtype=np.float32)]))

    def _nearest(self, user_BH: Tensor, counts: NDArray[np.int32], exclusions: RaggedRows) -> NDArray[np.int64]:
        """Ask FAISS for enough rows for every query, [B, K]; -1 where the scanned lists hold no more."""
        # Of the calling thread, as torch's setting is: threads of a process may differ.
        faiss.omp_set_num_threads(torch.get_num_threads())
        most = min(int((counts + exclusions.lengths).max(initial=1)), self._index.ntotal)
        parameters: Any = faiss.SearchParametersIVF()
        parameters.nprobe = self.probe_count
        _, found_BK = self._index.search(user_BH.numpy(), most, params=parameters)
        return np.asarray(found_BK)

    def _score(self, user_H: Tensor, rows_K: NDArray[np.int64], count: int) -> tuple[Rows, NDArray[np.float32]]:
        """Score FAISS's best `count` rows exactly and sort them."""
        rows_C = torch.from_numpy(rows_K[:count])
        scores_C, order_C = (self._item_vectors_IH.index_select(0, rows_C) @ user_H).sort(descending=True)
        return rows_C[order_C].int().numpy(), scores_C.numpy()


def _without(found_K: NDArray[np.int64], excluded: Rows) -> NDArray[np.int64]:
    """What was found and is not excluded, in order."""
    return found_K[(found_K >= 0) & ~np.isin(found_K, excluded)]
