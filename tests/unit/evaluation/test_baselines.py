"""The baselines learn what is planted, and every sparse computation equals a plain dense one."""

import warnings

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from tests.unit.training.planted import ITEMS_PER_GROUP, planted_histories
from winnow.evaluation import baselines
from winnow.evaluation.baselines import (
    AlternatingLeastSquares,
    Popularity,
    SuccessionKnn,
    TooLargeError,
    ease,
    item_knn,
    succession_shares,
)
from winnow.evaluation.recommenders import Recommender
from winnow.evaluation.simple_rivals import RIVALS, learn_rivals
from winnow.history import RaggedRows
from winnow.logs.split import LogSplit

ITEM_COUNT = 2 * ITEMS_PER_GROUP
SPLIT = LogSplit.leave_last_out(planted_histories())
LEARNED: dict[str, Recommender] = {
    "item-knn": item_knn(SPLIT.training, ITEM_COUNT, neighbour_count=10),
    "ease": ease(SPLIT.training, ITEM_COUNT, regularisation=5.0),
    "als": AlternatingLeastSquares(SPLIT.training, ITEM_COUNT, factors=4),
    "succession-knn": SuccessionKnn(SPLIT.training, ITEM_COUNT),
}


def watched(histories: RaggedRows, item_count: int) -> NDArray[np.float64]:
    matrix = np.zeros((len(histories), item_count))
    for user in range(len(histories)):
        matrix[user, histories[user]] = 1
    return matrix


def order_of(scores: NDArray[np.float64], seen: NDArray[np.int32]) -> list[int]:
    scores[seen] = -np.inf
    order: list[int] = np.argsort(-scores, kind="stable").tolist()
    return order


@pytest.mark.parametrize("name", LEARNED)
def test_planted_tastes_are_found(name: str) -> None:
    tops = LEARNED[name].top(SPLIT.test.histories, 5)
    assert np.mean(tops % 2 == SPLIT.test.targets[:, None] % 2) > 0.99


def test_popularity_is_that_of_the_training_watches() -> None:
    training = RaggedRows.from_lists([[2, 0], [2, 1], [3]])
    assert Popularity(training, 5).top(RaggedRows.from_lists([[1], []]), 3).tolist() == [[2, 3, 0], [2, 3, 1]]


def test_ease_is_the_closed_form() -> None:
    """Steck (2019): B = -P / diag(P) off the diagonal, where P is the inverse of the regularised co-watches."""
    together = watched(SPLIT.training, ITEM_COUNT).T @ watched(SPLIT.training, ITEM_COUNT)
    inverse = np.linalg.inv(together + 5.0 * np.eye(ITEM_COUNT))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    found = LEARNED["ease"].top(SPLIT.test.histories, 5)
    scores = watched(SPLIT.test.histories, ITEM_COUNT) @ weights
    for user in range(len(found)):
        assert found[user].tolist() == order_of(scores[user], SPLIT.test.histories[user])[:5]


def test_item_knn_sums_cosines_of_nearest_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "ITEMS_PER_BLOCK", 7)
    matrix = watched(SPLIT.training, ITEM_COUNT)
    norms = np.sqrt(matrix.sum(axis=0))
    cosine = matrix.T @ matrix / norms / norms[:, None]
    np.fill_diagonal(cosine, 0)
    least = np.sort(cosine, axis=0)[-10]
    # Rounding must not decide about neighbours that are equally near.
    cosine[cosine < least - 1e-6] = 0
    scores = watched(SPLIT.test.histories, ITEM_COUNT) @ cosine
    knn = item_knn(SPLIT.training, ITEM_COUNT, neighbour_count=10)
    found = knn.top(SPLIT.test.histories, 5)
    for user in range(len(found)):
        unseen = np.setdiff1d(np.arange(ITEM_COUNT), SPLIT.test.histories[user])
        best = np.sort(scores[user, unseen])[::-1][:5]
        np.testing.assert_allclose(scores[user, found[user]], best, rtol=0.02)


def test_successions_count_what_follows_by_its_distance() -> None:
    shares = succession_shares(RaggedRows.from_lists([[0, 1, 2], [0, 2]]), 3).toarray()
    # Item 0 was watched twice: 1 follows at once, 2 once at distance two and once at once.
    np.testing.assert_allclose(shares, np.array([[0, 1 / 2, 3 / 4], [0, 0, 1], [0, 0, 0]]))


def test_the_latest_watch_counts_most() -> None:
    training = RaggedRows.from_lists([[0, 2]] * 5 + [[1, 3]] * 5 + [[4]] * 9)
    knn = SuccessionKnn(training, 5)
    assert knn.top(RaggedRows.from_lists([[0, 1], [1, 0], [2]]), 2).tolist() == [[3, 2], [2, 3], [4, 3]]


def test_a_catalogue_too_large_for_all_pairs_is_refused() -> None:
    with pytest.raises(TooLargeError, match="15,001 items"):
        ease(SPLIT.training, 15_001)


def test_what_counts_pairs_in_memory_is_left_out_for_a_large_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "COUNTED_WATCH_LIMIT", len(SPLIT.training.rows) - 1)
    console = Console(record=True, width=200)
    assert learn_rivals(SPLIT, ITEM_COUNT, console) == {}
    for name in RIVALS:
        assert f"{name} is left out: it counts pairs of items in memory" in console.export_text(clear=False)
    monkeypatch.setattr(baselines, "COUNTED_WATCH_LIMIT", len(SPLIT.training.rows))
    assert list(learn_rivals(SPLIT, ITEM_COUNT, console)) == list(RIVALS)


def test_als_does_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AlternatingLeastSquares(SPLIT.training, ITEM_COUNT, factors=4).top(SPLIT.test.histories, 5)
