import numpy as np
import pytest
import torch

from winnow.evaluation.rank_figures import NOT_FOUND
from winnow.evaluation.ranks import (
    candidate_ranks,
    chain_logits,
    chain_ranks,
    popularity_ranks,
    rectangle,
    seen_among,
    stage_ranks,
    top_candidates,
)
from winnow.evaluation.recommender_figures import ask
from winnow.evaluation.recommenders import Chain
from winnow.history import RaggedRows
from winnow.logs.split import HeldOut
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.options import CandidateOptions, HistoryOptions
from winnow.networks.ranking import DeepRankingModel

ITEM_COUNT = 30
HISTORY = HistoryOptions(history_length=4)
COUNTS = np.ones(ITEM_COUNT, dtype=np.int64)


@pytest.fixture(scope="module")
def networks() -> tuple[DeepCandidateGenerationModel, DeepRankingModel]:
    return (
        DeepCandidateGenerationModel(ITEM_COUNT, 6, 5, 2, 1, CandidateOptions(history=HISTORY, linear_skip=True)),
        DeepRankingModel(ITEM_COUNT, 6, 5, 2, seed=2),
    )


@pytest.fixture(scope="module")
def held_out() -> HeldOut:
    rng = np.random.default_rng(1)
    lists = [rng.permutation(ITEM_COUNT)[: rng.integers(2, 9)] for _ in range(700)]
    return HeldOut(
        histories=RaggedRows.from_lists([list_[:-1].astype(np.int32) for list_ in lists]),
        targets=np.array([list_[-1] for list_ in lists], dtype=np.int32),
        users=np.arange(len(lists)),
    )


def held_out_of(histories: list[list[int]], targets: list[int]) -> HeldOut:
    return HeldOut(
        histories=RaggedRows.from_lists(histories),
        targets=np.array(targets, dtype=np.int32),
        users=np.arange(len(targets)),
    )


def test_ranks_are_what_a_sort_gives(
    networks: tuple[DeepCandidateGenerationModel, DeepRankingModel], held_out: HeldOut
) -> None:
    candidate_network, ranking_network = networks
    by_candidates = candidate_ranks(candidate_network, held_out)
    by_chain = chain_ranks(candidate_network, ranking_network, held_out, candidate_count=8)
    lists = top_candidates(candidate_network, held_out.histories, candidate_count=8)
    for user in range(0, len(held_out), 50):
        history = torch.from_numpy(held_out.histories[user]).long()
        scores = candidate_network([history])[0]
        unseen = [row for row in scores.argsort(descending=True).tolist() if row not in history.tolist()]
        target = int(held_out.targets[user])
        assert unseen.index(target) == by_candidates[user]
        assert lists[user].tolist() == unseen[:8]
        probabilities = ranking_network(history, torch.tensor(unseen[:8])).squeeze(1)
        ranked = [unseen[position] for position in probabilities.argsort(descending=True).tolist()]
        assert by_chain[user] == (ranked.index(target) if target in ranked else NOT_FOUND)


def test_seen_items_are_not_ranked_where_there_are_too_few_others(
    networks: tuple[DeepCandidateGenerationModel, DeepRankingModel], held_out: HeldOut
) -> None:
    by_chain = chain_ranks(*networks, held_out, candidate_count=ITEM_COUNT)
    for user in range(0, len(held_out), 50):
        history = torch.from_numpy(held_out.histories[user]).long()
        unseen = torch.tensor([row for row in range(ITEM_COUNT) if row not in history.tolist()])
        scores = networks[1](history, unseen).squeeze(1)
        target_score = scores[unseen == int(held_out.targets[user])]
        assert (scores > target_score).sum() <= by_chain[user] < (scores >= target_score).sum()
    again = held_out_of([[1, 2, 3]], [2])
    assert chain_ranks(*networks, again, candidate_count=ITEM_COUNT).tolist() == [NOT_FOUND]


def test_popularity_ranks_unseen_items_by_count() -> None:
    held_out = held_out_of([[0], [3], []], [2, 2, 0])
    assert popularity_ranks(np.array([9, 5, 3, 7]), held_out).tolist() == [2, 2, 0]


def test_ties_count_against_the_target() -> None:
    held_out = held_out_of([[0]], [2])
    assert popularity_ranks(np.array([5, 5, 5, 5]), held_out).tolist() == [2]


def test_a_target_that_was_seen_before_is_not_found(
    networks: tuple[DeepCandidateGenerationModel, DeepRankingModel],
) -> None:
    held_out = held_out_of([[4, 7]], [4])
    assert candidate_ranks(networks[0], held_out)[0] == NOT_FOUND
    assert chain_ranks(*networks, held_out, candidate_count=8)[0] == NOT_FOUND


@pytest.mark.parametrize("candidate_count", [24, ITEM_COUNT])
def test_where_few_unseen_items_are_left_the_seen_ones_come_last(
    networks: tuple[DeepCandidateGenerationModel, DeepRankingModel], held_out: HeldOut, candidate_count: int
) -> None:
    """As in serving, which leaves them out. Some lists have seen items, and others have none."""
    candidate_network, ranking_network = networks
    by_chain = chain_ranks(candidate_network, ranking_network, held_out, candidate_count=candidate_count)
    lists = top_candidates(candidate_network, held_out.histories, candidate_count=candidate_count)
    seen = seen_among(lists, held_out.histories)
    answers = Chain(candidate_network, ranking_network, candidate_count).top(held_out.histories, candidate_count)
    for user in range(0, len(held_out), 25):
        history = held_out.histories[user].tolist()
        assert seen[user].tolist() == [row in history for row in lists[user].tolist()]
        unseen = torch.tensor([row for row in lists[user].tolist() if row not in history])
        probabilities = ranking_network(torch.tensor(history), unseen).squeeze(1)
        ranked = unseen[probabilities.argsort(descending=True, stable=True)].tolist()
        target = int(held_out.targets[user])
        assert by_chain[user] == (ranked.index(target) if target in ranked else NOT_FOUND)
        assert answers[user, : len(ranked)].tolist() == ranked
    assert 0 < seen.any(dim=1).float().mean() <= 1


def test_every_stage_has_ranks(
    networks: tuple[DeepCandidateGenerationModel, DeepRankingModel], held_out: HeldOut
) -> None:
    found = stage_ranks(held_out, COUNTS, *networks, candidate_count=20)
    np.testing.assert_array_equal(found["popularity"], popularity_ranks(COUNTS, held_out))
    np.testing.assert_array_equal(found["candidate"], candidate_ranks(networks[0], held_out))
    np.testing.assert_array_equal(found["chain"], chain_ranks(*networks, held_out, candidate_count=20))
    assert set(stage_ranks(held_out, COUNTS, networks[0])) == {"popularity", "candidate"}


def test_in_a_small_catalogue_seen_candidates_are_neither_ranked_nor_found(
    networks: tuple[DeepCandidateGenerationModel, DeepRankingModel],
) -> None:
    """All items are candidates then, those that the user has seen included."""
    candidate_network, ranking_network = networks
    rng = np.random.default_rng(2)
    histories = [rng.permutation(ITEM_COUNT)[:20].tolist() for _ in range(40)]
    targets = [history[3] if user % 2 else next(row for row in range(ITEM_COUNT) if row not in history)
               for user, history in enumerate(histories)]  # fmt: skip
    held_out = held_out_of(histories, targets)
    found = chain_ranks(candidate_network, ranking_network, held_out, candidate_count=200)
    chain = Chain(candidate_network, ranking_network, 200)
    candidates, lists, _ = chain.both(held_out.histories, ITEM_COUNT)
    asked = ask(chain, held_out, ITEM_COUNT).ranks
    for user, (history, target) in enumerate(zip(histories, targets, strict=True)):
        unseen = torch.tensor([row for row in candidates[user].tolist() if row not in history])
        request = held_out.histories.slice(user, user + 1)
        with torch.inference_mode():
            scores = ranking_network.logits(ranking_network.pack(request), rectangle(unseen.unsqueeze(0)))
        expected = unseen[scores.argsort(descending=True, stable=True)].tolist()
        assert lists[user, : len(expected)].tolist() == expected
        assert found[user] == asked[user] == (NOT_FOUND if user % 2 else expected.index(target))
    logits, hits = chain_logits(candidate_network, ranking_network, held_out, candidate_count=200)
    assert len(logits) == 40 * (ITEM_COUNT - 20)
    assert int(hits.sum()) == 20
