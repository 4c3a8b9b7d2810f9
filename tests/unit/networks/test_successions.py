"""Ranking looks up what follows what: counted right, found again, and the same score whatever else is in the batch."""

import numpy as np
import pytest
import torch

from winnow.history import RaggedRows
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.folded_ranking import FoldedRanking, item_half_table
from winnow.networks.options import (
    CandidateOptions,
    HistoryOptions,
    MatchingOptions,
    RankingOptions,
    SuccessionOptions,
)
from winnow.networks.packed import pack
from winnow.networks.ranking import DeepRankingModel
from winnow.networks.successions import MATCHING_FEATURE, PAIR_KEY_BASE
from winnow.training.succession_counts import PRIOR_COUNT, count_successions, some_users

CPU = torch.device("cpu")
ITEM_COUNT = 9
LOG = RaggedRows.from_lists([[0, 1, 2, 3], [0, 1], [5], [], [2, 2, 0, 1]])
ALL = np.ones(len(LOG.rows), dtype=np.bool_)


def test_counts_are_of_the_watches_before() -> None:
    table = count_successions(LOG, ALL, ITEM_COUNT, successors_per_item=100)
    pairs = dict(zip(table.keys.tolist(), table.lifts.tolist(), strict=True))
    # 0 -> 1 three times next to each other, 0 -> 2 once at distance two, 0 -> 3 once at three, 2 -> 1 twice.
    assert set(pairs) == {
        watched * PAIR_KEY_BASE + after
        for watched, after in [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3), (2, 2), (2, 0), (2, 1)]
    }
    followers = {1: 3 + 1 / 2 + 1 / 3, 2: 1 / 2 + 1 + 1, 3: 1 / 3 + 1 / 2 + 1, 0: 1 + 1 / 2}
    total = sum(followers.values()) + ITEM_COUNT
    share = (followers[1] + 1) / total
    of_zero = 3 + 1 / 2 + 1 / 3
    expected = np.log((3 + PRIOR_COUNT * share) / ((of_zero + PRIOR_COUNT) * share))
    assert pairs[1] == pytest.approx(expected, rel=1e-5)
    assert table.unseen_lifts[0] == pytest.approx(np.log(PRIOR_COUNT / (of_zero + PRIOR_COUNT)), rel=1e-5)
    assert table.log_popularity[1] == pytest.approx(np.log(followers[1] + 1), rel=1e-5)


def test_a_watch_that_is_no_target_follows_nothing() -> None:
    # Else the answer to the examples that are held back for ranking could be read off the table.
    targets = ALL & (LOG.rows != 1)
    table = count_successions(LOG, targets, ITEM_COUNT, successors_per_item=100)
    assert not np.isin(1, table.keys % PAIR_KEY_BASE)
    assert np.isin(1, table.keys // PAIR_KEY_BASE)


def test_the_most_frequent_successors_are_kept() -> None:
    table = count_successions(LOG, ALL, ITEM_COUNT, successors_per_item=1)
    assert (0 * PAIR_KEY_BASE + 1) in table.keys
    assert np.bincount(table.keys // PAIR_KEY_BASE).max() == 1
    assert (np.diff(table.keys) > 0).all()


def network() -> DeepRankingModel:
    table = count_successions(LOG, ALL, ITEM_COUNT, successors_per_item=100)
    history = HistoryOptions(history_length=4, bag_decays=(0.0, 0.5))
    candidate = DeepCandidateGenerationModel(ITEM_COUNT, 6, 4, 2, 1, CandidateOptions(history=history))
    successions = SuccessionOptions(pair_count=len(table.keys), latest_count=3)
    matching = MatchingOptions(network=candidate.config, successions=successions)
    made = DeepRankingModel(ITEM_COUNT, 6, 4, 2, 2, RankingOptions(history=history, matching=matching))
    assert made.matching is not None
    assert made.matching.successions is not None
    columns = table.keys, table.lifts, table.unseen_lifts, table.log_popularity
    made.matching.successions.fill(*map(torch.from_numpy, columns))
    for parameter in made.matching.successions.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    return made.eval().requires_grad_(requires_grad=False)


HISTORIES = RaggedRows.from_lists([[1, 0], [], [4, 4, 7, 2, 0], [8]])
CANDIDATES = RaggedRows.from_lists([[1, 2, 5], [3, 4], [], list(range(ITEM_COUNT))])


def test_features_are_of_the_latest_watches_latest_first() -> None:
    made, table = network(), count_successions(LOG, ALL, ITEM_COUNT, successors_per_item=100)
    assert made.matching is not None
    assert made.matching.successions is not None
    requests = made.pack(HISTORIES), pack(CANDIDATES, CPU)
    logits_N = made.matching.network.candidate_logits(*requests)
    features = made.matching.successions.features(*requests, logits_N)
    lifts = dict(zip(table.keys.tolist(), table.lifts.tolist(), strict=True))
    # Candidate 1 after 0, the latest; after 1, which it never followed; there is no third watch.
    torch.testing.assert_close(features[0, :3], torch.tensor([lifts[1], float(table.unseen_lifts[1]), 0.0]))
    assert features[0, 3] == features[0, :3].max()
    torch.testing.assert_close(features[0, 4], features[0, :3].mean())
    assert not features[3:5, :3].any()
    torch.testing.assert_close(features[:, MATCHING_FEATURE], logits_N)
    assert features[0, -1] == table.log_popularity[1]


def test_a_score_does_not_depend_on_the_batch() -> None:
    made = network()
    together = made.logits(made.pack(HISTORIES), pack(CANDIDATES, CPU))
    alone = [
        made.logits(made.pack(HISTORIES.slice(user, user + 1)), pack(one, CPU))
        for user in range(len(HISTORIES))
        for one in (RaggedRows.from_lists([[row]]) for row in CANDIDATES[user])
    ]
    torch.testing.assert_close(together, torch.cat(alone))


def test_the_folded_network_scores_the_same() -> None:
    made = network()
    table = item_half_table(made, 2**20)
    assert table is not None
    histories, candidates = made.pack(HISTORIES), pack(CANDIDATES, CPU)
    torch.testing.assert_close(
        FoldedRanking(made, table).logits(histories, candidates), made.logits(histories, candidates)
    )


def test_a_release_can_rebuild_it() -> None:
    made = network()
    with torch.device("meta"):
        empty = DeepRankingModel.from_config(made.config)
    empty.load_state_dict(made.state_dict(), assign=True)
    histories, candidates = made.pack(HISTORIES), pack(CANDIDATES, CPU)
    torch.testing.assert_close(empty.logits(histories, candidates), made.logits(histories, candidates), rtol=0, atol=0)


def test_of_a_large_log_some_users_are_counted() -> None:
    everything = some_users(LOG, ALL, len(LOG.rows), seed=1)
    assert everything == (LOG, ALL)
    # Users have different items, so that it is seen whose are drawn.
    lists = [[user * 10 + place for place in range(user % 4 + 1)] for user in range(30)]
    log = RaggedRows.from_lists(lists)
    targets = log.rows % 2 == 0
    some, of_some = some_users(log, targets, 20, seed=1)
    assert 15 < len(some.rows) <= 20
    assert all(list(some[number]) in lists for number in range(len(some)))
    assert of_some.tolist() == (some.rows % 2 == 0).tolist()
