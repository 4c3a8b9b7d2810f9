"""Estimates with 95 % intervals, from sums by group of users and from histograms of times."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Student's t with 19 degrees of freedom, of the 20 groups that users are divided into at random.
T_OF_GROUPS = 2.093
Z = 1.96
# Of n answers without an event, the rate is below 3/n (the "rule of three").
RULE_OF_THREE = 3.0


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure and where it lies with 95 % confidence."""

    value: float
    low: float | None = None
    """None, as `high`, where there is too little to tell."""
    high: float | None = None
    standard_error: float | None = None


def ratio_by_group(
    numerators: Sequence[float], denominators: Sequence[float], *, least: float = 0.0
) -> Estimate | None:
    """Estimate sum(numerators) / sum(denominators), which is `least` or more; None where nothing was counted.

    The interval is the jackknife's: what the ratio becomes without one group, for each group. So it holds although the
    answers of one user are alike. There is none where a group has no answers; of few users it is rough.
    """
    total, count = sum(numerators), sum(denominators)
    if not count:
        return None
    value = total / count
    if not all(denominators) or len(denominators) < 2:
        return Estimate(value=value)
    if not any(numerators):
        return Estimate(value=value, low=least, high=RULE_OF_THREE / count)
    without = [
        (total - numerator) / (count - denominator)
        for numerator, denominator in zip(numerators, denominators, strict=True)
    ]
    mean = sum(without) / len(without)
    squares = sum((ratio - mean) ** 2 for ratio in without)
    error = math.sqrt((len(without) - 1) / len(without) * squares)
    return Estimate(
        value=value,
        low=max(least, value - T_OF_GROUPS * error),
        high=value + T_OF_GROUPS * error,
        standard_error=error,
    )


def difference(first: Estimate, second: Estimate) -> Estimate:
    """Estimate `first` minus `second`, which are of different users."""
    value = first.value - second.value
    if first.standard_error is None or second.standard_error is None:
        return Estimate(value=value)
    error = math.hypot(first.standard_error, second.standard_error)
    return Estimate(
        value=value, low=value - T_OF_GROUPS * error, high=value + T_OF_GROUPS * error, standard_error=error
    )


def quantile(cumulative: Mapping[float, float], share: float) -> Estimate | None:
    """Estimate a quantile from a histogram: how many values are at most each bound, infinity included.

    Bounds of the interval are the quantiles beside it that as many independent values may show in its place.
    """
    bounds = sorted(cumulative)
    count = cumulative[bounds[-1]] if bounds else 0
    if not count:
        return None
    margin = Z * math.sqrt(share * (1 - share) / count)
    return Estimate(
        value=_at(cumulative, bounds, share),
        low=_at(cumulative, bounds, max(0.0, share - margin)),
        high=_at(cumulative, bounds, min(1.0, share + margin)),
    )


def _at(cumulative: Mapping[float, float], bounds: Sequence[float], share: float) -> float:
    """Interpolate within the bounds around the share; beyond the last finite bound, return that."""
    rank = share * cumulative[bounds[-1]]
    below, counted = 0.0, 0.0
    for bound in bounds:
        if cumulative[bound] >= rank and cumulative[bound] > counted:
            if math.isinf(bound):
                return below
            return below + (bound - below) * max(0.0, rank - counted) / (cumulative[bound] - counted)
        if not math.isinf(bound):
            below, counted = bound, cumulative[bound]
    return below
