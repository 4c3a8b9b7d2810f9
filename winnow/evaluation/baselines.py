"""The baselines that learn from the same watches as a release. Except for EASE, they fit catalogues of any size.

Each takes histories and returns the best unseen rows: see Recommender. Matrices are scipy's csr_matrix, float32.
Shape legend: B histories, I items, K rows of an answer.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags, vstack

from winnow.evaluation.best_unseen import best_of_dense, best_of_sparse, most_watched_first
from winnow.evaluation.recommenders import Recommender
from winnow.history import RaggedRows

# EASE inverts a dense [I, I] matrix of float32 and holds three at a time: 2.7 GB.
DENSE_ITEM_LIMIT = 15_000
# What else counts pairs of items holds all of the log in memory, several times over.
COUNTED_WATCH_LIMIT = 20_000_000
# Items whose co-watches are counted at once.
ITEMS_PER_BLOCK = 1024
# Of succession-knn. A watch follows those of this many watches before it; the weight of each is one over its distance.
SUCCESSION_WINDOW = 10
# How many of the latest watches are looked up, and the weight of each as a share of that of the next later one.
LATEST_COUNT, RECENCY_DECAY = 20, 0.8
SUCCESSORS_PER_ITEM = 200
# Of item-knn.
NEIGHBOURS_PER_ITEM = 100
SEED = 1


class TooLargeError(ValueError):
    """A baseline does not fit a catalogue, or a log, of this size; the message says why."""


class Popularity:
    """The most watched items, the same for everyone."""

    def __init__(self, training: RaggedRows, item_count: int) -> None:
        self._preferred_I = most_watched_first(training, item_count)

    def top(self, histories: RaggedRows, count: int) -> NDArray[np.int64]:
        """See Recommender.top."""
        nothing_BI = csr_matrix((len(histories), len(self._preferred_I)), dtype=np.float32)
        return best_of_sparse(nothing_BI, histories, count, self._preferred_I)


class SuccessionKnn:
    """What followed each of the latest watches in the log; the later a watch, the more it counts.

    Sequential rules in the terms of Ludewig and Jannach, Evaluation of Session-based Recommendation Algorithms (2018),
    summed over the latest watches with weights that fall with their lag. Nothing is trained.
    """

    def __init__(self, training: RaggedRows, item_count: int) -> None:
        """Count the log. Raises TooLargeError where it is too large."""
        check_countable(training)
        self.following_II = succession_shares(training, item_count)
        self._preferred_I = most_watched_first(training, item_count)

    def top(self, histories: RaggedRows, count: int) -> NDArray[np.int64]:
        """See Recommender.top."""
        scores_BI = recency_matrix(histories, len(self._preferred_I)) @ self.following_II
        return best_of_sparse(scores_BI, histories, count, self._preferred_I)


class SparseSimilarity:
    """The sum over the history of a score for each pair of items, [I, I], most of which are zero."""

    def __init__(self, similarity_II: Any, preferred_I: NDArray[np.int64]) -> None:
        self._similarity_II = similarity_II
        self._preferred_I = preferred_I

    def top(self, histories: RaggedRows, count: int) -> NDArray[np.int64]:
        """See Recommender.top."""
        scores_BI = watched_matrix(histories, len(self._preferred_I)) @ self._similarity_II
        return best_of_sparse(scores_BI, histories, count, self._preferred_I)


class DenseSimilarity:
    """The sum over the history of a score for each pair of items, [I, I]."""

    def __init__(self, similarity_II: NDArray[np.float32], preferred_I: NDArray[np.int64]) -> None:
        self._similarity_II = similarity_II
        self._preferred_I = preferred_I

    def top(self, histories: RaggedRows, count: int) -> NDArray[np.int64]:
        """See Recommender.top."""
        return best_of_dense(self.scores(histories), histories, count, self._preferred_I)

    def scores(self, histories: RaggedRows) -> NDArray[np.float32]:
        """Return the score of each item after each history, float32 [B, I]."""
        scores_BI: NDArray[np.float32] = watched_matrix(histories, len(self._preferred_I)) @ self._similarity_II
        return scores_BI

    def largest(self, count: int) -> Any:
        """Return the `count` largest scores above zero of each watched item, a csr_matrix [I, I]."""
        item_count = len(self._similarity_II)
        blocks = (
            self._similarity_II[start : start + ITEMS_PER_BLOCK] for start in range(0, item_count, ITEMS_PER_BLOCK)
        )
        return vstack([largest_of_rows(csr_matrix(np.maximum(block, 0)), count) for block in blocks]).tocsr()


def item_knn(training: RaggedRows, item_count: int, *, neighbour_count: int = NEIGHBOURS_PER_ITEM) -> SparseSimilarity:
    """Score pairs by the cosine of the sets of their users, among the nearest neighbours of each item.

    Raises TooLargeError where the log is too large.
    """
    check_countable(training)
    cosines_II = co_watch_cosines(training, item_count, neighbour_count=neighbour_count)
    return SparseSimilarity(cosines_II, most_watched_first(training, item_count))


def co_watch_cosines(training: RaggedRows, item_count: int, *, neighbour_count: int = NEIGHBOURS_PER_ITEM) -> Any:
    """Return the cosine of the sets of users of a watched item, the row, and those it is a nearest neighbour of."""
    watched_UI = watched_matrix(training, item_count)
    norms_I = np.sqrt(np.bincount(watched_UI.indices, minlength=item_count)).clip(min=1).astype(np.float32)
    cosine_UI = watched_UI @ diags(1 / norms_I)
    cosine_IU = cosine_UI.T.tocsr()
    blocks = []
    for start in range(0, item_count, ITEMS_PER_BLOCK):
        nearest_II = cosine_IU[start : start + ITEMS_PER_BLOCK] @ cosine_UI
        own = nearest_II.indices == np.repeat(np.arange(nearest_II.shape[0]), np.diff(nearest_II.indptr)) + start
        nearest_II.data[own] = 0
        blocks.append(largest_of_rows(nearest_II, neighbour_count))
    return vstack(blocks).T.tocsr()


def ease(training: RaggedRows, item_count: int, *, regularisation: float = 500.0) -> DenseSimilarity:
    """Fit the linear autoencoder of Steck, Embarrassingly Shallow Autoencoders for Sparse Data (WWW 2019).

    Raises TooLargeError where the catalogue is too large for a dense matrix, or the log for memory.
    """
    check_countable(training)
    if item_count > DENSE_ITEM_LIMIT:
        raise TooLargeError(
            f"{item_count:,} items are too many for EASE, which inverts a dense matrix of all pairs: "
            f"at most {DENSE_ITEM_LIMIT:,}"
        )
    watched_UI = watched_matrix(training, item_count)
    together_II = torch.from_numpy((watched_UI.T @ watched_UI).toarray())
    together_II.diagonal().add_(regularisation)
    factor_II = torch.linalg.cholesky(together_II)
    del together_II
    weights_II = torch.cholesky_inverse(factor_II)
    del factor_II
    weights_II /= -weights_II.diagonal().clone()
    weights_II.fill_diagonal_(0)
    return DenseSimilarity(weights_II.numpy(), most_watched_first(training, item_count))


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
            self._model.fit(watched_matrix(training, item_count), show_progress=False)

    def top(self, histories: RaggedRows, count: int) -> NDArray[np.int64]:
        """See Recommender.top."""
        users = np.arange(len(histories))
        watched_BI = watched_matrix(histories, self._item_count)
        rows, _ = self._model.recommend(
            users, watched_BI, N=count, filter_already_liked_items=True, recalculate_user=True
        )
        return np.asarray(rows, dtype=np.int64)


BASELINES: dict[str, Callable[[RaggedRows, int], Recommender]] = {
    "popularity": Popularity,
    "succession-knn": SuccessionKnn,
    "item-knn": item_knn,
    "ease": ease,
    "als": AlternatingLeastSquares,
}


def check_countable(training: RaggedRows) -> None:
    """Raise TooLargeError where a log has too many watches to count pairs of items in memory."""
    if len(training.rows) > COUNTED_WATCH_LIMIT:
        raise TooLargeError(
            f"it counts pairs of items in memory, in at most {COUNTED_WATCH_LIMIT:,} watches, and there are "
            f"{len(training.rows):,}"
        )


def watched_matrix(histories: RaggedRows, item_count: int) -> Any:
    """Return 1 for each item in a history, else 0: [B, I]."""
    matrix = _of_histories(np.ones(len(histories.rows)), histories, item_count)
    matrix.data[:] = 1
    return matrix


def recency_matrix(histories: RaggedRows, item_count: int) -> Any:
    """Return the weights of the latest watches of each history: [B, I]."""
    latest = RaggedRows(histories.rows, histories.offsets).last(LATEST_COUNT)
    lags = np.repeat(latest.offsets[1:], latest.lengths) - np.arange(len(latest.rows)) - 1
    return _of_histories(RECENCY_DECAY**lags, latest, item_count)


def succession_shares(training: RaggedRows, item_count: int) -> Any:
    """Return how often each item follows each other one, as a share of the watches of the latter: [I, I]."""
    rows = training.rows
    users_N = np.repeat(np.arange(len(training)), training.lengths)
    counts_II = csr_matrix((item_count, item_count), dtype=np.float32)
    for distance in range(1, SUCCESSION_WINDOW + 1):
        follows = users_N[distance:] == users_N[:-distance]
        before, after = rows[:-distance][follows], rows[distance:][follows]
        weights = np.full(len(before), 1 / distance, dtype=np.float32)
        counts_II = counts_II + csr_matrix((weights, (before, after)), shape=counts_II.shape)
    watches_I = np.bincount(rows, minlength=item_count).clip(min=1)
    return largest_of_rows((diags(1 / watches_I) @ counts_II).tocsr().astype(np.float32), SUCCESSORS_PER_ITEM)


def largest_of_rows(matrix: Any, count: int) -> Any:
    """Keep the `count` largest numbers above zero of each row of a csr_matrix, and those that are equal to them."""
    kept = matrix.data > 0
    for start, stop in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True):
        if stop - start > count:
            numbers = matrix.data[start:stop]
            kept[start:stop] &= numbers >= np.partition(numbers, -count)[-count]
    matrix.data[~kept] = 0
    matrix.eliminate_zeros()
    return matrix


def _of_histories(values_N: NDArray[np.floating], histories: RaggedRows, item_count: int) -> Any:
    shape = len(histories), item_count
    # Copied: sum_duplicates sorts the rows in place.
    matrix = csr_matrix((values_N.astype(np.float32), histories.rows.copy(), histories.offsets.copy()), shape=shape)
    matrix.sum_duplicates()
    return matrix
