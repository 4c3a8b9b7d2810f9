"""Candidate generation of one release: histories -> user vectors -> index."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from winnow.history import RaggedRows
from winnow.index.exact import ExactIndex
from winnow.index.protocol import CandidateIndex, Retrieved
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.packed import pack
from winnow.release.golden import GoldenRequests, check_scores
from winnow.release.networks import load_candidate_network
from winnow.release.reader import Release


@dataclass(frozen=True, kw_only=True, eq=False)
class RetrievalQueries:
    """B queries: watched rows, how many candidates (int32 [B]), and rows that must not be returned."""

    histories: RaggedRows
    counts: NDArray[np.int32]
    exclusions: RaggedRows


class Retriever:
    """Answers batches of queries on one device."""

    def __init__(self, network: DeepCandidateGenerationModel, index: CandidateIndex, device: torch.device) -> None:
        self._network = network
        self._index = index
        self._device = device

    @classmethod
    def from_release(cls, release: Release, device: torch.device) -> "Retriever":
        """Load network and index. Raises ReleaseError where they do not fit the release."""
        network = load_candidate_network(release, device)
        return cls(network, ExactIndex(network.item_vectors_IH), device)

    @property
    def item_count(self) -> int:
        """Rows lie in [0, item_count)."""
        return self._network.n_items

    @torch.inference_mode()
    def retrieve(self, queries: RetrievalQueries) -> Retrieved:
        """Return each query's best candidates, best first, with their logits."""
        recent = queries.histories.last(self._network.history_length)
        histories = pack(recent, self.item_count, "histories", self._device)
        return self._index.search(self._network.user_vectors(histories), queries.counts, queries.exclusions)

    def compute(self, batch: Sequence[RetrievalQueries]) -> list[Retrieved]:
        """Answer several calls' queries as one."""
        retrieved = self.retrieve(
            RetrievalQueries(
                histories=RaggedRows.concatenate([queries.histories for queries in batch]),
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
        counts = golden.candidates.lengths.astype(np.int32)
        found = self.retrieve(RetrievalQueries(histories=golden.histories, counts=counts, exclusions=golden.histories))
        check_scores("candidate network", golden.candidate_scores, found.scores)
