"""A release is compared with what is simpler and with what is served, by paired differences of the same users."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.releases import ITEM_COUNT, item_id, write_random_release
from winnow.catalogue.vocabulary import Vocabulary
from winnow.evaluation.gate import judge, ranks_of_release
from winnow.evaluation.rank_figures import LIST_LENGTH, NOT_FOUND, Ranks
from winnow.evaluation.ranks import chain_ranks
from winnow.history import RaggedRows
from winnow.logs.item_changes import no_changes
from winnow.logs.split import HeldOut
from winnow.release.models.derivation import derive_release
from winnow.release.models.loader import load_candidate_network, load_ranking_network
from winnow.release.reader import open_release

USERS = np.arange(400)
CPU = torch.device("cpu")


def ranks(*, hit_share: float) -> Ranks:
    """The targets of the first users are on top, the others are nowhere."""
    return np.where(hit_share * len(USERS) > USERS, 0, NOT_FOUND)


def test_the_best_baseline_and_the_current_release_are_rivals() -> None:
    baselines = {"popularity": ranks(hit_share=0.1), "ease": ranks(hit_share=0.3)}
    verdict = judge(ranks(hit_share=0.5), baselines, {"the current release": ranks(hit_share=0.4)}, USERS)
    assert [rival.name for rival in verdict.rivals] == ["ease, the best baseline", "the current release"]
    assert [rival.difference for rival in verdict.rivals] == pytest.approx([0.2, 0.1])
    assert all(rival.low < rival.difference < rival.high for rival in verdict.rivals)
    assert verdict.ndcg_at_10 == 0.5
    assert verdict.passed


@pytest.mark.parametrize(("ours", "passed"), [(0.3, False), (0.395, True), (0.4, True)])
def test_only_what_is_worse_beyond_noise_fails(ours: float, passed: bool) -> None:
    verdict = judge(ranks(hit_share=ours), {"popularity": ranks(hit_share=0.4)}, {}, USERS)
    assert verdict.passed is passed
    assert ("worse than popularity" in str(verdict)) is not passed


def held_out() -> HeldOut:
    rng = np.random.default_rng(2)
    lists = [rng.permutation(ITEM_COUNT)[: rng.integers(2, 9)].tolist() for _ in range(600)]
    return HeldOut(
        histories=RaggedRows.from_lists([list_[:-1] for list_ in lists]),
        targets=np.array([list_[-1] for list_ in lists], dtype=np.int32),
        users=np.arange(len(lists)),
    )


def test_a_release_ranks_by_item_ids_whatever_its_rows_are(tmp_path: Path) -> None:
    release = open_release(tmp_path / write_random_release(tmp_path))
    candidate, ranking = load_candidate_network(release, CPU), load_ranking_network(release, CPU)
    theirs = held_out()
    expected = chain_ranks(candidate, ranking, theirs, candidate_count=200)
    expected = np.where(expected < LIST_LENGTH, expected, NOT_FOUND)
    order = np.random.default_rng(3).permutation(ITEM_COUNT)
    ours = HeldOut(
        histories=RaggedRows(np.argsort(order)[theirs.histories.rows].astype(np.int32), theirs.histories.offsets),
        targets=np.argsort(order)[theirs.targets].astype(np.int32),
        users=theirs.users,
    )
    vocabulary = Vocabulary([item_id(row) for row in order.tolist()])
    np.testing.assert_array_equal(ranks_of_release(release, vocabulary, ours, CPU), expected)


def test_items_that_a_release_does_not_know_are_left_out_and_not_found(tmp_path: Path) -> None:
    release = open_release(tmp_path / write_random_release(tmp_path))
    vocabulary = Vocabulary(["new", *(item_id(row) for row in range(ITEM_COUNT))])
    known = HeldOut(
        histories=RaggedRows.from_lists([[1, 2], [3, 4]]), targets=np.array([0, 0], dtype=np.int32), users=np.arange(2)
    )
    assert ranks_of_release(release, vocabulary, known, CPU).tolist() == [NOT_FOUND, NOT_FOUND]
    candidate, ranking = load_candidate_network(release, CPU), load_ranking_network(release, CPU)
    with_new = HeldOut(
        histories=RaggedRows.from_lists([[1, 0, 2], [3, 4]]),
        targets=np.array([9, 7], dtype=np.int32),
        users=np.arange(2),
    )
    without = HeldOut(
        histories=RaggedRows.from_lists([[0, 1], [2, 3]]), targets=np.array([8, 6], dtype=np.int32), users=np.arange(2)
    )
    expected = chain_ranks(candidate, ranking, without, candidate_count=200)
    expected = np.where(expected < LIST_LENGTH, expected, NOT_FOUND)
    np.testing.assert_array_equal(ranks_of_release(release, vocabulary, with_new, CPU), expected)


def test_retired_items_are_not_ranked(tmp_path: Path) -> None:
    release = open_release(tmp_path / write_random_release(tmp_path))
    vocabulary, theirs = release.vocabulary(), held_out()
    before = ranks_of_release(release, vocabulary, theirs, CPU)
    retired = np.unique(theirs.targets[before == 0])[:5]
    made = derive_release(
        release, no_changes(), retire=vocabulary.item_ids(retired.tolist()), restore=(), make_current=False
    )
    after = ranks_of_release(open_release(tmp_path / made.release_id), vocabulary, theirs, CPU)
    of_retired = np.isin(theirs.targets, retired)
    assert (after[of_retired] == NOT_FOUND).all()
    others = ~of_retired & (before != NOT_FOUND) & (after != NOT_FOUND)
    assert (after[others] < before[others]).any()
