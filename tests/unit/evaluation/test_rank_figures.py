import numpy as np
import pytest

from winnow.evaluation.rank_figures import NOT_FOUND, means_of_users, rank_figures


def test_hit_rates_ndcg_and_reciprocal_ranks() -> None:
    found = rank_figures(np.array([0, 2, 60, NOT_FOUND]), np.arange(4))
    assert found["hr_at_10"] == 0.5
    assert found["hr_at_50"] == 0.5
    assert found["hr_at_100"] == found["hr_at_200"] == 0.75
    assert found["ndcg_at_10"] == pytest.approx((1 + 1 / np.log2(4)) / 4)
    assert found["mrr"] == pytest.approx((1 + 1 / 3 + 1 / 61) / 4)


def test_every_user_counts_the_same() -> None:
    found = rank_figures(np.array([0, 50, NOT_FOUND, 20]), np.array([7, 3, 7, 7]))
    assert found["hr_at_10"] == pytest.approx((1 / 3 + 0) / 2)
    assert found["hr_at_50"] == pytest.approx((2 / 3 + 0) / 2)
    assert found["mrr"] == pytest.approx(((1 + 1 / 21) / 3 + 1 / 51) / 2)


def test_means_are_of_each_user() -> None:
    means = means_of_users(np.array([1.0, 5.0, 2.0, 6.0]), np.array([4, 9, 4, 4]))
    assert means.tolist() == [3.0, 5.0]
