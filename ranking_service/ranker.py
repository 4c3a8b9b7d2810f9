"""Ranking of one release: histories and candidates -> scores."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from winnow.contexts import RequestContexts
from winnow.history import RaggedRows, WatchHistories
from winnow.networks.folded_ranking import Arithmetic, FoldedRanking, item_half_table
from winnow.networks.packed import pack
from winnow.networks.ranking import DeepRankingModel
from winnow.release.golden import TOLERANCE, GoldenRequests, check_scores
from winnow.release.manifest import RANKING_NETWORK_FILE
from winnow.release.models.loader import load_ranking_network
from winnow.release.reader import Release

RELEASE_FILES = frozenset({RANKING_NETWORK_FILE})
"""What is read of a release, besides the golden requests."""

# Eight bits a number, through three layers: probabilities move by a hundredth where scores are large.
BFLOAT16_TOLERANCE = 3e-2


@dataclass(frozen=True, kw_only=True, eq=False)
class RankingQueries:
    """B queries: watched rows, the rows to score for them, and what else the callers know."""

    histories: RaggedRows
    candidates: RaggedRows
    contexts: RequestContexts | None = None

    def __len__(self) -> int:
        return len(self.histories)


class Ranker:
    """Scores batches of queries on one device."""

    def __init__(
        self,
        network: DeepRankingModel,
        device: torch.device,
        *,
        table_budget_bytes: int = 0,
        arithmetic: Arithmetic = "float32",
    ) -> None:
        """Fold the network where the table of its item halves fits into the budget; see FoldedRanking.

        Where it does not, the plain network computes, in float32 whatever `arithmetic` says.
        """
        table = item_half_table(network, table_budget_bytes)
        self._network = network
        self._logits = network.logits if table is None else FoldedRanking(network, table, arithmetic).logits
        self._golden_tolerance = BFLOAT16_TOLERANCE if table is not None and arithmetic == "bfloat16" else TOLERANCE
        self._device = device

    @classmethod
    def from_release(
        cls,
        release: Release,
        device: torch.device,
        *,
        table_budget_bytes: int = 0,
        arithmetic: Arithmetic = "float32",
    ) -> "Ranker":
        """Load the network. Raises ReleaseError where it does not fit the release."""
        network = load_ranking_network(release, device)
        return cls(network, device, table_budget_bytes=table_budget_bytes, arithmetic=arithmetic)

    @property
    def item_count(self) -> int:
        """Rows lie in [0, item_count)."""
        return self._network.n_items

    @torch.inference_mode()
    def rank(self, queries: RankingQueries) -> NDArray[np.float32]:
        """Return the score of every candidate, float32 [N], in the order of the candidates."""
        histories = self._network.pack(queries.histories, queries.contexts)
        candidates = pack(queries.candidates, self.item_count, "candidates", self._device)
        return self._network.scores(self._logits(histories, candidates)).cpu().numpy()

    def compute(self, batch: Sequence[RankingQueries]) -> list[NDArray[np.float32]]:
        """Answer several calls' queries as one."""
        if len(batch) == 1:
            return [self.rank(batch[0])]
        scores = self.rank(
            RankingQueries(
                histories=WatchHistories.concatenate([queries.histories for queries in batch]),
                candidates=RaggedRows.concatenate([queries.candidates for queries in batch]),
                contexts=_concatenated(batch),
            )
        )
        ends = np.cumsum([len(queries.candidates.rows) for queries in batch])
        return np.split(scores, ends[:-1])

    def check_golden(self, golden: GoldenRequests) -> None:
        """Raise GoldenMismatchError unless the golden requests are answered as when the release was made."""
        scores = self.rank(
            RankingQueries(histories=golden.histories, candidates=golden.candidates, contexts=golden.contexts)
        )
        check_scores("ranking network", golden.ranking_scores, scores, self._golden_tolerance)


def _concatenated(batch: Sequence[RankingQueries]) -> RequestContexts | None:
    if all(queries.contexts is None for queries in batch):
        return None
    return RequestContexts.concatenate(
        [queries.contexts or RequestContexts.unknown(len(queries.histories)) for queries in batch]
    )
