"""What `winnow evaluate` compares: the stages of a release, and simple baselines that learn from the same watches.

Each takes histories and returns the best unseen rows. Shape legend: B histories, I items, K rows of an answer.
"""

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from winnow.evaluation.ranks import rectangle, top_candidates
from winnow.history import RaggedRows, WatchHistories
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.ranking import DeepRankingModel

# An [I, I] matrix of float64 is inverted for EASE: 20,000 items are 3.2 GB.
DENSE_ITEM_LIMIT = 20_000
SEED = 1


class Recommender(Protocol):
    """Anything that recommends items for histories."""

    def top(self, histories: RaggedRows, count: int) -> NDArray[np.int64]:
        """Return the `count` best rows that are not in each history, best first: int64 [B, count]."""


class CandidateOrder:
    """The candidate stage alone."""

    def __init__(self, network: DeepCandidateGenerationModel) -> None:
        self._network = network

    def top(self, histories: RaggedRows, count: int) -> NDArray[np.int64]:
        """See Recommender.top."""
        return top_candidates(self._network, histories, candidate_count=count).cpu().numpy()


class Chain:
    """Both stages: the first `candidate_count` candidates ranked, the others after them in candidate order."""

    def __init__(
        self, candidate_network: DeepCandidateGenerationModel, ranking_network: DeepRankingModel, candidate_count: int
    ) -> None:
        self._candidate_network = candidate_network
        self._ranking_network = ranking_network
        self._candidate_count = candidate_count

    def top(self, histories: RaggedRows, count: int) -> NDArray[np.int64]:
        """See Recommender.top."""
        rows_BK = top_candidates(self._candidate_network, histories, candidate_count=max(count, self._candidate_count))
        ranked = rows_BK[:, : self._candidate_count]
        order = self._logits(histories, ranked).argsort(dim=1, descending=True, stable=True)
        best = torch.cat([ranked.gather(1, order), rows_BK[:, self._candidate_count :]], dim=1)
        return best[:, :count].cpu().numpy()

    def probabilities(self, histories: RaggedRows) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the candidates of each history, int64 [B, K], and the probability of each, float32 [B, K]."""
        rows_BK = top_candidates(self._candidate_network, histories, candidate_count=self._candidate_count)
        return rows_BK.cpu().numpy(), torch.sigmoid(self._logits(histories, rows_BK)).cpu().numpy()

    @torch.inference_mode()
    def _logits(self, histories: RaggedRows, rows_BK: Tensor) -> Tensor:
        return self._ranking_network.logits(self._ranking_network.pack(histories), rectangle(rows_BK)).view_as(rows_BK)


class Withholding:
    """Another recommender, asked by a caller who does not know the weights or the timestamps of the watches."""

    def __init__(self, recommender: Recommender, *, weights: bool, timestamps: bool) -> None:
        """Withhold `weights`, `timestamps` or both."""
        self._recommender = recommender
        self._weights = weights
        self._timestamps = timestamps

    def top(self, histories: RaggedRows, count: int) -> NDArray[np.int64]:
        """See Recommender.top."""
        known = WatchHistories.of(histories)
        sent = WatchHistories.from_lengths(
            known.rows,
            known.lengths,
            None if self._weights else known.weights,
            None if self._timestamps else known.timestamps,
        )
        return self._recommender.top(sent, count)


class Popularity:
    """The most watched items, the same for everyone."""

    def __init__(self, training: RaggedRows, item_count: int) -> None:
        self._counts_I = np.bincount(training.rows, minlength=item_count).astype(np.float64)
        self._preferred_I = most_watched_first(training, item_count)

    def top(self, histories: RaggedRows, count: int) -> NDArray[np.int64]:
        """See Recommender.top."""
        return best_unseen(np.tile(self._counts_I, (len(histories), 1)), histories, count, self._preferred_I)


class ItemSimilarity:
    """The sum over the history of a score for each pair of items, [I, I]."""

    def __init__(self, similarity_II: NDArray[np.float64], preferred_I: NDArray[np.int64]) -> None:
        self._similarity_II = similarity_II
        self._preferred_I = preferred_I

    def top(self, histories: RaggedRows, count: int) -> NDArray[np.int64]:
        """See Recommender.top."""
        scores_BI = watched_matrix(histories, len(self._similarity_II)) @ self._similarity_II
        return best_unseen(scores_BI, histories, count, self._preferred_I)


def item_knn(training: RaggedRows, item_count: int, *, neighbour_count: int = 100) -> ItemSimilarity:
    """Score pairs by the cosine of the sets of their users, among the nearest neighbours of each item.

    Raises ValueError where the catalogue is too large for a dense matrix.
    """
    together_II = co_watches(training, item_count)
    norms_I = np.sqrt(np.diag(together_II)).clip(min=1)
    similarity_II = together_II / norms_I[:, None] / norms_I
    np.fill_diagonal(similarity_II, 0)
    if neighbour_count < item_count:
        least_I = np.partition(similarity_II, -neighbour_count, axis=0)[-neighbour_count]
        similarity_II[similarity_II < least_I] = 0
    return ItemSimilarity(similarity_II, most_watched_first(training, item_count))


def ease(training: RaggedRows, item_count: int, *, regularisation: float = 500.0) -> ItemSimilarity:
    """Fit the linear autoencoder of Steck, Embarrassingly Shallow Autoencoders for Sparse Data (WWW 2019).

    Raises ValueError where the catalogue is too large for a dense matrix.
    """
    together_II = co_watches(training, item_count)
    inverse_II = np.linalg.inv(together_II + regularisation * np.eye(item_count))
    weights_II = -inverse_II / np.diag(inverse_II)
    np.fill_diagonal(weights_II, 0)
    return ItemSimilarity(weights_II, most_watched_first(training, item_count))


class AlternatingLeastSquares:
    """Matrix factorisation by the library `implicit`; the vector of a user is computed from the history."""

    def __init__(self, training: RaggedRows, item_count: int, *, factors: int = 64) -> None:
        """Fit the factors. Raises ImportError without the extra `train`."""
        from implicit.als import AlternatingLeastSquares as Model
        from threadpoolctl import threadpool_limits

        self._item_count = item_count
        # The library starts its own threads, and warns about those of BLAS beneath them.
        with threadpool_limits(1, "blas"):
            self._model: Any = Model(factors=factors, regularization=0.05, iterations=15, random_state=SEED)
            self._model.fit(self._sparse(training), show_progress=False)

    def top(self, histories: RaggedRows, count: int) -> NDArray[np.int64]:
        """See Recommender.top."""
        users = np.arange(len(histories))
        rows, _ = self._model.recommend(
            users, self._sparse(histories), N=count, filter_already_liked_items=True, recalculate_user=True
        )
        return np.asarray(rows, dtype=np.int64)

    def _sparse(self, histories: RaggedRows) -> Any:
        from scipy.sparse import csr_matrix

        shape = len(histories), self._item_count
        ones = np.ones(len(histories.rows), dtype=np.float32)
        matrix = csr_matrix((ones, histories.rows, histories.offsets), shape=shape)
        matrix.sum_duplicates()
        return matrix


def watched_matrix(histories: RaggedRows, item_count: int) -> NDArray[np.float64]:
    """Return 1 for each item in a history, else 0: [B, I]."""
    watched_BI = np.zeros((len(histories), item_count))
    watched_BI[np.repeat(np.arange(len(histories)), histories.lengths), histories.rows] = 1
    return watched_BI


def co_watches(training: RaggedRows, item_count: int, *, users_per_block: int = 1024) -> NDArray[np.float64]:
    """Count the users who watched both items of each pair, [I, I].

    Raises ValueError for more than DENSE_ITEM_LIMIT items.
    """
    if item_count > DENSE_ITEM_LIMIT:
        raise ValueError(
            f"{item_count:,} items are too many for this baseline, which needs a matrix of all pairs: "
            f"at most {DENSE_ITEM_LIMIT:,}"
        )
    together_II = np.zeros((item_count, item_count))
    for start in range(0, len(training), users_per_block):
        block = training.slice(start, min(start + users_per_block, len(training)))
        watched_BI = watched_matrix(block, item_count)
        together_II += watched_BI.T @ watched_BI
    return together_II


def most_watched_first(training: RaggedRows, item_count: int) -> NDArray[np.int64]:
    """Return all rows, the most watched in training first, int64 [I].

    Ties are in reverse row order: rows are ordered by all watches, and must not reveal the held-out ones.
    """
    counts_I = np.bincount(training.rows, minlength=item_count)
    return np.lexsort((-np.arange(item_count), -counts_I))


def best_unseen(
    scores_BI: NDArray[np.float64], histories: RaggedRows, count: int, preferred_I: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the unseen rows with the largest scores, best first; ties are in the order of `preferred_I`."""
    seen = np.repeat(np.arange(len(histories)), histories.lengths), histories.rows
    scores_BI[seen] = -np.inf
    best_BK = np.argsort(-scores_BI[:, preferred_I], axis=1, kind="stable")[:, :count]
    found: NDArray[np.int64] = preferred_I[best_BK]
    return found
