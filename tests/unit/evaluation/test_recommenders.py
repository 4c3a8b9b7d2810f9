"""Every recommender keeps one contract, and those that learn find the tastes that are planted."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.unit.training.planted import ITEMS_PER_GROUP, planted_histories
from winnow.evaluation.recommenders import (
    AlternatingLeastSquares,
    CandidateOrder,
    Chain,
    Popularity,
    Recommender,
    Withholding,
    best_unseen,
    co_watches,
    ease,
    item_knn,
    most_watched_first,
)
from winnow.history import UNKNOWN_TIME, RaggedRows, WatchHistories
from winnow.logs.split import LogSplit
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.ranking import DeepRankingModel

ITEM_COUNT = 2 * ITEMS_PER_GROUP
SPLIT = LogSplit.leave_last_out(planted_histories())
CANDIDATE_NETWORK = DeepCandidateGenerationModel(ITEM_COUNT, 6, 5, 2, seed=1).requires_grad_(requires_grad=False)
RANKING_NETWORK = DeepRankingModel(ITEM_COUNT, 6, 5, 2, seed=2).requires_grad_(requires_grad=False)

LEARNED: dict[str, Recommender] = {
    "item-knn": item_knn(SPLIT.training, ITEM_COUNT, neighbour_count=10),
    "ease": ease(SPLIT.training, ITEM_COUNT, regularisation=5.0),
    "als": AlternatingLeastSquares(SPLIT.training, ITEM_COUNT, factors=4),
}
ALL = LEARNED | {
    "candidate": CandidateOrder(CANDIDATE_NETWORK),
    "chain": Chain(CANDIDATE_NETWORK, RANKING_NETWORK, candidate_count=5),
    "popularity": Popularity(SPLIT.training, ITEM_COUNT),
}


@pytest.mark.parametrize("name", ALL)
def test_answers_are_unseen_and_without_duplicates(name: str) -> None:
    histories = SPLIT.test.histories.slice(0, 7)
    together = ALL[name].top(histories, 12)
    assert together.shape == (7, 12)
    for user in range(7):
        assert len({*together[user].tolist(), *histories[user].tolist()}) == 12 + len(histories[user])
        np.testing.assert_array_equal(ALL[name].top(histories.slice(user, user + 1), 12)[0], together[user])


@pytest.mark.parametrize("name", LEARNED)
def test_planted_tastes_are_found(name: str) -> None:
    tops = LEARNED[name].top(SPLIT.test.histories, 5)
    assert np.mean(tops % 2 == SPLIT.test.targets[:, None] % 2) > 0.99


def test_the_chain_ranks_its_candidates_and_keeps_the_others_behind_them() -> None:
    histories = SPLIT.test.histories
    candidates, chain = ALL["candidate"].top(histories, 12), ALL["chain"].top(histories, 12)
    np.testing.assert_array_equal(np.sort(chain[:, :5]), np.sort(candidates[:, :5]))
    np.testing.assert_array_equal(chain[:, 5:], candidates[:, 5:])
    probabilities = RANKING_NETWORK(torch.from_numpy(histories[0]).long(), torch.from_numpy(candidates[0, :5]))
    np.testing.assert_array_equal(chain[0, :5], candidates[0, :5][probabilities[:, 0].argsort(descending=True)])


def test_co_watches_count_users_once() -> None:
    together = co_watches(RaggedRows.from_lists([[0, 1, 1], [1, 2], [0]]), 3, users_per_block=2)
    assert together.tolist() == [[2, 1, 0], [1, 2, 1], [0, 1, 1]]


def test_equal_scores_stand_in_the_order_that_is_preferred() -> None:
    preferred = np.array([3, 2, 0, 1])
    best = best_unseen(np.array([[1.0, 2.0, 1.0, 2.0]]), RaggedRows.from_lists([[3]]), 3, preferred)
    assert best.tolist() == [[1, 2, 0]]


def test_popularity_is_that_of_the_training_watches_and_a_tie_does_not_tell_of_others() -> None:
    training = RaggedRows.from_lists([[2, 0], [2, 1], [3]])
    assert most_watched_first(training, 5).tolist() == [2, 3, 1, 0, 4]
    assert Popularity(training, 5).top(RaggedRows.from_lists([[1], []]), 3).tolist() == [[2, 3, 0], [2, 3, 1]]


def test_what_is_withheld_is_not_seen() -> None:
    seen: list[WatchHistories] = []

    class Listening:
        def top(self, histories: RaggedRows, count: int) -> NDArray[np.int64]:
            assert isinstance(histories, WatchHistories)
            seen.append(histories)
            return np.zeros((len(histories), count), dtype=np.int64)

    histories = planted_histories().slice(0, 3)
    for weights, timestamps in ((True, False), (False, True), (True, True)):
        Withholding(Listening(), weights=weights, timestamps=timestamps).top(histories, 4)
        sent = seen.pop()
        np.testing.assert_array_equal(sent.rows, histories.rows)
        np.testing.assert_array_equal(sent.offsets, histories.offsets)
        assert np.isnan(sent.weights).all() if weights else (sent.weights == histories.weights).all()
        assert (sent.timestamps == (UNKNOWN_TIME if timestamps else histories.timestamps)).all()


def test_the_chain_says_how_probable_its_candidates_are() -> None:
    histories = SPLIT.test.histories.slice(0, 4)
    rows, probabilities = Chain(CANDIDATE_NETWORK, RANKING_NETWORK, candidate_count=5).probabilities(histories)
    for user in range(4):
        expected = RANKING_NETWORK(torch.from_numpy(histories[user]).long(), torch.from_numpy(rows[user]))
        np.testing.assert_allclose(probabilities[user], expected[:, 0], rtol=1e-5)


def test_a_catalogue_too_large_for_all_pairs_is_refused() -> None:
    with pytest.raises(ValueError, match="20,001 items"):
        ease(SPLIT.training, 20_001)
