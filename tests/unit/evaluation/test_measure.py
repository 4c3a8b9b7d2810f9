import numpy as np
import pytest
from numpy.typing import NDArray

from winnow.evaluation.measure import DEPTHS, Answers, ask, hit_rate_by, interval, measure
from winnow.history import RaggedRows
from winnow.training.split import HeldOut

NOT_FOUND = DEPTHS[-1]


class Rising:
    """Answers 0, 1, 2, ... whatever is asked."""

    def top(self, histories: RaggedRows, count: int) -> NDArray[np.int64]:
        return np.tile(np.arange(count), (len(histories), 1))


def test_places_are_those_of_the_held_out_watches() -> None:
    targets = np.array([3, 0, 99, 700] * 300, dtype=np.int32)
    held_out = HeldOut(
        histories=RaggedRows.from_lists([[]] * len(targets)), targets=targets, users=np.arange(len(targets))
    )
    answers = ask(Rising(), held_out, 1000)
    assert answers.places.tolist() == [3, 0, 99, NOT_FOUND] * 300
    assert answers.lists.shape == (1200, 10)


def answers_at(*places: int) -> Answers:
    return Answers(places=np.array(places), lists=np.tile(np.arange(10), (len(places), 1)))


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


def test_groups() -> None:
    rates = hit_rate_by(answers_at(0, 50, 3, 4), np.array([0, 0, 1, 1]), {0: "few", 1: "many", 2: "none"})
    assert rates == {"few": 0.5, "many": 1.0}
