"""Candidate generation of one release: histories -> user vectors -> index."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from winnow.history import RaggedRows, WatchHistories
from winnow.index.exact import ExactIndex
from winnow.index.protocol import CandidateIndex, Retrieved
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.release.golden import GoldenMismatchError, GoldenRequests, check_scores
from winnow.release.manifest import CANDIDATE_NETWORK_FILE, INDEX_FILE
from winnow.release.models.loader import load_candidate_network, load_index
from winnow.release.reader import Release

RELEASE_FILES = frozenset({CANDIDATE_NETWORK_FILE, INDEX_FILE})
"""What is read of a release, besides the golden requests."""

# What an approximate index has to find of the golden candidates: a working one finds nearly all, a broken one none.
LEAST_GOLDEN_SHARE = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class RetrievalQueries:
    """B queries: watched rows, how many candidates (int32 [B]), and rows that must not be returned."""

    histories: RaggedRows
    counts: NDArray[np.int32]
    exclusions: RaggedRows

    def __len__(self) -> int:
        return len(self.counts)


class Retriever:
    """Answers batches of queries on one device."""

    def __init__(self, network: DeepCandidateGenerationModel, index: CandidateIndex, device: torch.device) -> None:
        self._network = network
        self._index = index
        self._device = device

    @classmethod
    def from_release(cls, release: Release, device: torch.device, *, exact_search: bool = False) -> "Retriever":
        """Load network and index. Raises ReleaseError where they do not fit the release.

        On a GPU, and with `exact_search`, all items are scanned, whatever index the release has.
        """
        network = load_candidate_network(release, device)
        if exact_search or device.type != "cpu":
            # A GPU scans a million items in less time than a CPU takes to search an approximate index.
            return cls(network, ExactIndex(network.item_vectors_IH), device)
        return cls(network, load_index(release, network.item_vectors_IH), device)

    @property
    def item_count(self) -> int:
        """Rows lie in [0, item_count)."""
        return self._network.n_items

    @torch.inference_mode()
    def retrieve(self, queries: RetrievalQueries) -> Retrieved:
        """Return each query's best candidates, best first, with their logits."""
        user_BH = self._network.user_vectors(self._network.pack(queries.histories))
        return self._index.search(user_BH, queries.counts, queries.exclusions)

    def compute(self, batch: Sequence[RetrievalQueries]) -> list[Retrieved]:
        """Answer several calls' queries as one."""
        if len(batch) == 1:
            return [self.retrieve(batch[0])]
        retrieved = self.retrieve(
            RetrievalQueries(
                histories=WatchHistories.concatenate([queries.histories for queries in batch]),
                counts=np.concatenate([queries.counts for queries in batch]),
                exclusions=RaggedRows.concatenate([queries.exclusions for queries in batch]),
            )
        )
        answers, start = [], 0
        for queries in batch:
            stop = start + len(queries.counts)
            scores = retrieved.scores[retrieved.rows.offsets[start] : retrieved.rows.offsets[stop]]
            answers.append(Retrieved(retrieved.rows.slice(start, stop), scores))
            start = stop
        return answers

    def check_golden(self, golden: GoldenRequests) -> None:
        """Raise GoldenMismatchError unless the golden requests are answered as when the release was made."""
        check_scores("candidate network", golden.candidate_scores, self._logits(golden))
        counts = golden.candidates.lengths.astype(np.int32)
        found = self.retrieve(RetrievalQueries(histories=golden.histories, counts=counts, exclusions=golden.histories))
        if self._index.exact:
            check_scores("index", golden.candidate_scores, found.scores)
        elif (share := _share_found(golden.candidates, found.rows)) < LEAST_GOLDEN_SHARE:
            raise GoldenMismatchError(f"index: it finds {share:.0%} of the golden candidates")

    @torch.inference_mode()
    def _logits(self, golden: GoldenRequests) -> NDArray[np.float32]:
        """The network's logit of each golden candidate, without the index."""
        user_BH = self._network.user_vectors(self._network.pack(golden.histories))
        golden.candidates.check_rows(self.item_count, "candidates")
        rows_N = torch.from_numpy(golden.candidates.rows).to(self._device)
        query_N = torch.from_numpy(np.repeat(np.arange(len(user_BH)), golden.candidates.lengths)).to(self._device)
        return (user_BH[query_N] * self._network.item_vectors_IH[rows_N]).sum(dim=1).cpu().numpy()


def _share_found(wanted: RaggedRows, found: RaggedRows) -> float:
    hits = sum(int(np.isin(wanted[query], found[query]).sum()) for query in range(len(wanted)))
    return hits / max(len(wanted.rows), 1)
