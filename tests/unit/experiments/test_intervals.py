"""Estimates are right, and their intervals hold the truth about as often as they say."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from winnow.experiments.intervals import Estimate, difference, quantile, ratio_by_group
from winnow.release.experiment import USER_GROUP_COUNT

GROUPS = USER_GROUP_COUNT


def bounds(estimate: Estimate | None) -> tuple[float, float]:
    assert estimate is not None
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low, estimate.high


def test_nothing_counted_is_no_estimate_and_too_little_no_interval() -> None:
    assert ratio_by_group([0.0] * GROUPS, [0.0] * GROUPS) is None
    assert ratio_by_group([1.0] + [0.0] * 19, [2.0] + [0.0] * 19) == Estimate(value=0.5)
    assert quantile({}, 0.5) is None
    assert quantile({1.0: 0.0, math.inf: 0.0}, 0.5) is None


def test_no_event_is_no_proof_that_there_never_is_one() -> None:
    assert ratio_by_group([0.0] * GROUPS, [100.0] * GROUPS) == Estimate(value=0.0, low=0.0, high=3 / 2000)


def test_equal_groups_leave_no_doubt() -> None:
    assert ratio_by_group([5.0] * GROUPS, [10.0] * GROUPS) == Estimate(value=0.5, low=0.5, high=0.5, standard_error=0.0)


def test_for_groups_of_one_size_the_interval_is_that_of_their_mean() -> None:
    rates = np.random.default_rng(1).random(GROUPS)
    estimate = ratio_by_group((rates * 50).tolist(), [50.0] * GROUPS)
    low, high = bounds(estimate)
    error = rates.std(ddof=1) / math.sqrt(GROUPS)
    assert (low, high) == pytest.approx((rates.mean() - 2.093 * error, rates.mean() + 2.093 * error))


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50)), min_size=GROUPS, max_size=GROUPS))
@settings(max_examples=30)
def test_the_interval_holds_the_ratio_and_is_not_below_the_least(counts: list[tuple[int, int]]) -> None:
    estimate = ratio_by_group([float(first) for first, _ in counts], [float(second) for _, second in counts])
    assert estimate is not None
    low, high = bounds(estimate)
    assert 0 <= low <= estimate.value <= high
    assert estimate.value == pytest.approx(sum(first for first, _ in counts) / sum(second for _, second in counts))


def test_nineteen_intervals_in_twenty_hold_the_truth_although_users_differ() -> None:
    """Users who click a lot make clicks alike within a user: an interval of independent clicks would be too narrow."""
    rng = np.random.default_rng(7)
    held = narrow = 0
    for _ in range(400):
        group = rng.integers(0, GROUPS, 600)
        answers = rng.poisson(8, 600) + 1
        clicks = rng.poisson(answers * rng.gamma(0.5, 0.4, 600))  # 0.2 clicks an answer on average
        estimate = ratio_by_group(
            np.bincount(group, clicks, GROUPS).tolist(), np.bincount(group, answers, GROUPS).tolist()
        )
        low, high = bounds(estimate)
        held += low <= 0.2 <= high
        assert estimate is not None
        narrow += abs(estimate.value - 0.2) <= 1.96 * math.sqrt(estimate.value / answers.sum())
    assert 0.91 < held / 400 < 0.98
    assert narrow / 400 < 0.8


def test_a_difference_of_equal_arms_is_mostly_not_told_from_none() -> None:
    rng = np.random.default_rng(3)
    told = 0
    for _ in range(300):
        arms = []
        for _ in range(2):
            denominators = rng.poisson(200, GROUPS) + 1
            arms.append(ratio_by_group(rng.poisson(denominators * 0.3).tolist(), denominators.tolist()))
        first, second = arms
        assert first is not None
        assert second is not None
        low, high = bounds(difference(first, second))
        told += not low <= 0 <= high
    assert told / 300 < 0.08
    assert difference(Estimate(value=2.0), Estimate(value=0.5)) == Estimate(value=1.5)


def test_quantiles_are_those_of_the_values_as_far_as_the_bounds_tell() -> None:
    values = np.random.default_rng(2).gamma(2, 0.01, 5000)
    edges = [*np.linspace(0.002, 0.1, 50).tolist(), math.inf]
    cumulative = {edge: float((values <= edge).sum()) for edge in edges}
    for share in (0.5, 0.99):
        estimate = quantile(cumulative, share)
        assert estimate is not None
        assert estimate.value == pytest.approx(np.quantile(values, share), abs=0.002)
        low, high = bounds(estimate)
        assert low <= estimate.value <= high
    assert bounds(quantile(cumulative, 0.5))[1] - bounds(quantile(cumulative, 0.5))[0] < 0.002


def test_beyond_the_last_bound_nothing_more_is_known() -> None:
    estimate = quantile({0.1: 1.0, 10.0: 1.0, math.inf: 100.0}, 0.99)
    assert estimate == Estimate(value=10.0, low=10.0, high=10.0)
