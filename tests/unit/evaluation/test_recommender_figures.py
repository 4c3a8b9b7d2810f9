import numpy as np
import pytest
from numpy.typing import NDArray

from winnow.evaluation.rank_figures import NOT_FOUND
from winnow.evaluation.recommender_figures import Answers, ask, by_group, gain, interval, measure
from winnow.history import RaggedRows
from winnow.logs.split import HeldOut


class Rising:
    """Always answers 0, 1, 2, ..."""

    def top(self, histories: RaggedRows, count: int) -> NDArray[np.int64]:
        return np.tile(np.arange(count), (len(histories), 1))


def test_ranks_are_those_of_the_held_out_watches() -> None:
    targets = np.array([3, 0, 99, 700] * 300, dtype=np.int32)
    held_out = HeldOut(
        histories=RaggedRows.from_lists([[]] * len(targets)), targets=targets, users=np.arange(len(targets))
    )
    answers = ask(Rising(), held_out, 1000)
    assert answers.ranks.tolist() == [3, 0, 99, NOT_FOUND] * 300
    assert answers.lists.shape == (1200, 10)


def answers_at(*ranks: int, users: tuple[int, ...] | None = None) -> Answers:
    return Answers(
        ranks=np.array(ranks),
        lists=np.tile(np.arange(10), (len(ranks), 1)),
        users=np.array(range(len(ranks)) if users is None else users),
    )


def test_figures() -> None:
    found = measure(answers_at(0, 2, 60, NOT_FOUND), np.array([89, *[9] * 19]), seed=1)
    assert found["hr_at_10"] == 0.5
    assert found["hr_at_50"] == 0.5
    assert found["hr_at_100"] == found["hr_at_500"] == 0.75
    assert found["ndcg_at_10"] == pytest.approx((1 + 1 / 2) / 4)
    assert found["mrr"] == pytest.approx((1 + 1 / 3 + 1 / 61) / 4)
    assert found["hr_at_10_low"] == 0.0
    assert found["hr_at_10_high"] == 1.0
    assert found["coverage_at_10"] == 0.5
    # 90 of 280 watches are of one shown item, 10 of each of the other nine.
    assert found["popularity_at_10"] == pytest.approx((90 + 9 * 10) / 280 / 10)
    assert found["novelty_at_10"] == pytest.approx((np.log2(280 / 90) + 9 * np.log2(28)) / 10)


def test_the_interval_is_that_of_a_mean() -> None:
    values = np.random.default_rng(0).random(4000)
    low, high = interval(values, seed=1)
    error = values.std() / np.sqrt(len(values))
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.2 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.2 * error)
    assert interval(values, seed=1) == (low, high)


def test_every_user_counts_the_same_however_many_watches_are_held_out() -> None:
    answers = answers_at(0, NOT_FOUND, 1, 3, users=(5, 2, 5, 5))
    found = measure(answers, np.full(20, 9), seed=1)
    assert found["hr_at_10"] == 0.5
    assert found["ndcg_at_10"] == pytest.approx((1 + 1 / np.log2(3) + 1 / np.log2(5)) / 3 / 2)
    assert found["mrr"] == pytest.approx((1 + 1 / 2 + 1 / 4) / 3 / 2)
    # Two users, of whom one is always found: nothing, both or one of two are drawn.
    assert (found["hr_at_10_low"], found["hr_at_10_high"]) == (0.0, 1.0)


def test_coverage_counts_the_lists_of_everybody() -> None:
    lists = np.array([np.arange(10), np.arange(5, 15)])
    answers = Answers(ranks=np.array([0, 0]), lists=lists, users=np.array([0, 1]))
    assert measure(answers, np.ones(60, dtype=np.int64), seed=1)["coverage_at_10"] == 15 / 60


def test_a_gain_is_paired() -> None:
    rng = np.random.default_rng(0)
    theirs = rng.integers(0, 40, 3000)
    ours = np.where(rng.random(3000) < 0.1, 0, theirs)
    found = gain(ours, theirs, np.arange(3000), seed=1)
    difference = (ours < 10).astype(float) - (theirs < 10)
    error = difference.std() / np.sqrt(3000)
    assert found["hr_at_10"] == pytest.approx(difference.mean())
    assert found["hr_at_10_low"] == pytest.approx(difference.mean() - 1.96 * error, abs=0.2 * error)
    assert found["hr_at_10_high"] == pytest.approx(difference.mean() + 1.96 * error, abs=0.2 * error)
    assert found["ndcg_at_10"] > 0


def test_groups() -> None:
    answers = answers_at(0, 50, 3, 40, 2, users=(0, 1, 2, 2, 3))
    groups = by_group(answers, np.array([0, 0, 1, 1, 1]), ["few", "many", "none"])
    assert set(groups) == {"few", "many"}
    assert groups["few"] == pytest.approx({"hr_at_10": 0.5, "ndcg_at_10": 0.5, "share_of_watches": 0.4})
    assert groups["many"]["hr_at_10"] == (0.5 + 1) / 2
    assert groups["many"]["ndcg_at_10"] == pytest.approx((1 / np.log2(5) / 2 + 1 / np.log2(4)) / 2)
