"""What `winnow evaluate` compares: the stages of a release. The baselines are in baselines.py.

Each takes histories and returns the best unseen rows. Shape legend: B histories, K rows of an answer.
"""

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from winnow.evaluation.ranks import rectangle, seen_among, top_candidates
from winnow.history import NO_ROWS, RaggedRows, Rows, WatchHistories
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.ranking import DeepRankingModel


class Recommender(Protocol):
    """Anything that recommends items for histories."""

    def top(self, histories: RaggedRows, count: int) -> NDArray[np.int64]:
        """Return the `count` best rows that are not in each history, best first: int64 [B, count].

        Where there are fewer, the list ends with rows of the history.
        """


class CandidateOrder:
    """The candidate stage alone. `retired` rows are in no list."""

    def __init__(self, network: DeepCandidateGenerationModel, retired: Rows = NO_ROWS) -> None:
        self._network = network
        self._retired = retired

    def top(self, histories: RaggedRows, count: int) -> NDArray[np.int64]:
        """See Recommender.top."""
        rows_BK = top_candidates(self._network, histories, candidate_count=count, retired=self._retired)
        return rows_BK.cpu().numpy()


class Chain:
    """Both stages: the first `candidate_count` candidates ranked, the others after them in candidate order.

    `retired` rows are in no list.
    """

    def __init__(
        self,
        candidate_network: DeepCandidateGenerationModel,
        ranking_network: DeepRankingModel,
        candidate_count: int,
        retired: Rows = NO_ROWS,
    ) -> None:
        self._candidate_network = candidate_network
        self._ranking_network = ranking_network
        self._candidate_count = candidate_count
        self._retired = retired

    def top(self, histories: RaggedRows, count: int) -> NDArray[np.int64]:
        """See Recommender.top."""
        return self.both(histories, count)[1]

    def both(
        self, histories: RaggedRows, count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """Return what the candidate order and the chain answer, int64 [B, count] each.

        The third array are the probabilities of the first `candidate_count` rows of the candidate order, float32; 0 for
        a row that its user has seen.
        """
        rows_BK = top_candidates(
            self._candidate_network,
            histories,
            candidate_count=max(count, self._candidate_count),
            retired=self._retired,
        )
        ranked = rows_BK[:, : self._candidate_count]
        logits = self._logits(histories, ranked).masked_fill(seen_among(ranked, histories), -torch.inf)
        order = logits.argsort(dim=1, descending=True, stable=True)
        best = torch.cat([ranked.gather(1, order), rows_BK[:, self._candidate_count :]], dim=1)
        return (
            rows_BK[:, :count].cpu().numpy(),
            best[:, :count].cpu().numpy(),
            torch.sigmoid(logits).cpu().numpy(),
        )

    @torch.inference_mode()
    def _logits(self, histories: RaggedRows, rows_BK: Tensor) -> Tensor:
        return self._ranking_network.logits(self._ranking_network.pack(histories), rectangle(rows_BK)).view_as(rows_BK)


class WithoutRetired:
    """A recommender that knows nothing of `retired` rows, without them."""

    def __init__(self, recommender: Recommender, retired: Rows) -> None:
        self._recommender = recommender
        self._retired = retired

    def top(self, histories: RaggedRows, count: int) -> NDArray[np.int64]:
        """See Recommender.top. The catalogue has at least `count` items that are not retired."""
        rows_BK = self._recommender.top(histories, count + len(self._retired))
        others_first_BK = np.isin(rows_BK, self._retired).argsort(axis=1, kind="stable")
        return np.take_along_axis(rows_BK, others_first_BK, axis=1)[:, :count]


def withhold(histories: RaggedRows, *, weights: bool, timestamps: bool) -> WatchHistories:
    """Return what a caller sends who does not know the weights or the timestamps of the watches."""
    known = WatchHistories.of(histories)
    return WatchHistories.from_lengths(
        known.rows,
        known.lengths,
        None if weights else known.weights,
        None if timestamps else known.timestamps,
    )
