"""Every recommender keeps one contract: unseen items, no duplicates, the same alone and in a batch."""

import numpy as np
import pytest
import torch

from tests.unit.training.planted import ITEMS_PER_GROUP, planted_histories
from winnow.evaluation.baselines import BASELINES
from winnow.evaluation.recommenders import CandidateOrder, Chain, Recommender, WithoutRetired, withhold
from winnow.history import UNKNOWN_TIME
from winnow.logs.split import LogSplit
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.ranking import DeepRankingModel

ITEM_COUNT = 2 * ITEMS_PER_GROUP
SPLIT = LogSplit.leave_last_out(planted_histories())
CANDIDATE_NETWORK = DeepCandidateGenerationModel(ITEM_COUNT, 6, 5, 2, seed=1).requires_grad_(requires_grad=False)
RANKING_NETWORK = DeepRankingModel(ITEM_COUNT, 6, 5, 2, seed=2).requires_grad_(requires_grad=False)
CHAIN = Chain(CANDIDATE_NETWORK, RANKING_NETWORK, candidate_count=5)

ALL: dict[str, Recommender] = {
    **{name: learn(SPLIT.training, ITEM_COUNT) for name, learn in BASELINES.items()},
    "candidate": CandidateOrder(CANDIDATE_NETWORK),
    "chain": CHAIN,
    "chain, all items": Chain(CANDIDATE_NETWORK, RANKING_NETWORK, candidate_count=ITEM_COUNT),
}
RETIRED = np.array([0, 3, 4, 17, 30], dtype=np.int32)
OFFERED: dict[str, Recommender] = {
    **{name: WithoutRetired(ALL[name], RETIRED) for name in BASELINES},
    "candidate": CandidateOrder(CANDIDATE_NETWORK, RETIRED),
}


@pytest.mark.parametrize("name", ALL)
def test_answers_are_unseen_and_without_duplicates(name: str) -> None:
    histories = SPLIT.test.histories.slice(0, 7)
    before = histories.rows.copy()
    together = ALL[name].top(histories, 12)
    np.testing.assert_array_equal(histories.rows, before)
    assert together.shape == (7, 12)
    for user in range(7):
        assert len({*together[user].tolist(), *histories[user].tolist()}) == 12 + len(histories[user])
        np.testing.assert_array_equal(ALL[name].top(histories.slice(user, user + 1), 12)[0], together[user])


@pytest.mark.parametrize("name", OFFERED)
def test_retired_items_are_in_no_list_and_the_others_keep_their_order(name: str) -> None:
    histories = SPLIT.test.histories.slice(0, 7)
    everything = ALL[name].top(histories, ITEM_COUNT)
    expected = [[row for row in rows if row not in RETIRED][:12] for rows in everything.tolist()]
    assert OFFERED[name].top(histories, 12).tolist() == expected


def test_no_candidate_of_the_chain_is_retired() -> None:
    histories = SPLIT.test.histories.slice(0, 7)
    chain = Chain(CANDIDATE_NETWORK, RANKING_NETWORK, 5, RETIRED)
    candidates, ranked, _ = chain.both(histories, 12)
    np.testing.assert_array_equal(candidates, OFFERED["candidate"].top(histories, 12))
    np.testing.assert_array_equal(np.sort(ranked[:, :5]), np.sort(candidates[:, :5]))
    np.testing.assert_array_equal(ranked[:, 5:], candidates[:, 5:])
    assert chain.top(histories, ITEM_COUNT).shape == (7, ITEM_COUNT - len(RETIRED))


def test_the_chain_ranks_its_candidates_and_keeps_the_others_behind_them() -> None:
    histories = SPLIT.test.histories
    candidates, chain = ALL["candidate"].top(histories, 12), ALL["chain"].top(histories, 12)
    np.testing.assert_array_equal(np.sort(chain[:, :5]), np.sort(candidates[:, :5]))
    np.testing.assert_array_equal(chain[:, 5:], candidates[:, 5:])
    probabilities = RANKING_NETWORK(torch.from_numpy(histories[0]).long(), torch.from_numpy(candidates[0, :5]))
    np.testing.assert_array_equal(chain[0, :5], candidates[0, :5][probabilities[:, 0].argsort(descending=True)])


def test_both_stages_in_one_pass_answer_as_they_do_alone_and_say_how_probable_candidates_are() -> None:
    histories = SPLIT.test.histories.slice(0, 4)
    candidates, chain, probabilities = CHAIN.both(histories, 12)
    np.testing.assert_array_equal(candidates, ALL["candidate"].top(histories, 12))
    np.testing.assert_array_equal(chain, ALL["chain"].top(histories, 12))
    assert probabilities.shape == (4, 5)
    for user in range(4):
        expected = RANKING_NETWORK(torch.from_numpy(histories[user]).long(), torch.from_numpy(candidates[user, :5]))
        np.testing.assert_allclose(probabilities[user], expected[:, 0], rtol=1e-5)


def test_what_is_withheld_is_not_seen() -> None:
    histories = planted_histories().slice(0, 3)
    for weights, timestamps in ((True, False), (False, True), (True, True), (False, False)):
        sent = withhold(histories, weights=weights, timestamps=timestamps)
        np.testing.assert_array_equal(sent.rows, histories.rows)
        np.testing.assert_array_equal(sent.offsets, histories.offsets)
        assert np.isnan(sent.weights).all() if weights else (sent.weights == histories.weights).all()
        assert (sent.timestamps == (UNKNOWN_TIME if timestamps else histories.timestamps)).all()
