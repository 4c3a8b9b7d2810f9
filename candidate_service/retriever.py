"""Candidate generation of one release: histories -> user vectors -> index."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from winnow.history import RaggedRows
from winnow.index.exact import ExactIndex
from winnow.index.protocol import CandidateIndex
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.folded_history import FoldedUserVectors
from winnow.queries import Candidates, RetrievalQuery
from winnow.release.golden import GoldenMismatchError, GoldenRequests, check_scores
from winnow.release.manifest import CANDIDATE_NETWORK_FILE, INDEX_FILE
from winnow.release.models.loader import load_candidate_network, load_index
from winnow.release.reader import Release

RELEASE_FILES = frozenset({CANDIDATE_NETWORK_FILE, INDEX_FILE})
"""What is read of a release, besides the golden requests."""

# How many of the golden candidates an approximate index has to find: a working one finds nearly all, a broken one none.
LEAST_GOLDEN_SHARE = 0.5


class Retriever:
    """Answers batches of queries on one device."""

    def __init__(self, network: DeepCandidateGenerationModel, index: CandidateIndex, device: torch.device) -> None:
        self._network = network
        self._user_vectors = FoldedUserVectors(network) if device.type == "cpu" else network.user_vectors
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
    def retrieve(self, query: RetrievalQuery) -> Candidates:
        """Return the best candidates of each query, best first, with their logits."""
        user_BH = self._user_vectors(self._network.pack(query.histories))
        return self._index.search(user_BH, query)

    def compute(self, batch: Sequence[RetrievalQuery]) -> list[Candidates]:
        """Answer the queries of several calls as one."""
        return self.retrieve(RetrievalQuery.concatenate(batch)).split([len(query) for query in batch])

    def check_golden(self, golden: GoldenRequests) -> None:
        """Raise GoldenMismatchError unless the golden requests are answered as when the release was made."""
        check_scores("candidate network", golden.candidate_scores, self._logits(golden))
        counts = golden.candidates.lengths.astype(np.int32)
        query = RetrievalQuery(histories=golden.histories, counts=counts, exclusions=golden.histories)
        found = self.retrieve(query)
        if self._index.exact:
            check_scores("index", golden.candidate_scores, found.scores)
        elif (share := _share_found(golden.candidates, found.rows)) < LEAST_GOLDEN_SHARE:
            raise GoldenMismatchError(f"index: it finds {share:.0%} of the golden candidates")

    @torch.inference_mode()
    def _logits(self, golden: GoldenRequests) -> NDArray[np.float32]:
        """The network's logit of each golden candidate, without the index."""
        user_BH = self._user_vectors(self._network.pack(golden.histories))
        rows_N = torch.from_numpy(golden.candidates.rows).to(self._device)
        query_N = torch.from_numpy(np.repeat(np.arange(len(user_BH)), golden.candidates.lengths)).to(self._device)
        return (user_BH[query_N] * self._network.item_vectors_IH[rows_N]).sum(dim=1).cpu().numpy()


def _share_found(wanted: RaggedRows, found: RaggedRows) -> float:
    hits = sum(int(np.isin(wanted[query], found[query]).sum()) for query in range(len(wanted)))
    return hits / max(len(wanted.rows), 1)
