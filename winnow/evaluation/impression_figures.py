"""How well scores order the impressions of a user, and how true the expected watch time is.

Shape legend: N impressions.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DECILES = 10

Scores = NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class ImpressionFigures:
    """Figures over impressions of many users."""

    weighted_per_user_loss: float
    """Paper, section 4.3: of all pairs of a clicked and an unclicked impression of one user, the watch time of those in
    which the unclicked one scores at least as high, as a share of the watch time of all of them."""
    auc_by_user: float
    """The share of those pairs that are in order, ties counted half, of each user; the mean over users who have any."""
    user_count: int
    """How many have any."""


def ordering_figures(
    users: NDArray[np.int64], scores: Scores, clicked: NDArray[np.bool_], watch_seconds: NDArray[np.float32]
) -> ImpressionFigures:
    """Judge the order of the scores within each user; all arrays are [N]."""
    lost_seconds = total_seconds = auc_sum = 0.0
    user_count = 0
    for of_user in _lists_of_users(users):
        positive = clicked[of_user]
        negatives = np.sort(scores[of_user[~positive]])
        if not len(negatives) or not positive.any():
            continue
        positives, seconds = scores[of_user[positive]], watch_seconds[of_user[positive]].astype(np.float64)
        below = np.searchsorted(negatives, positives, side="left")
        not_above = np.searchsorted(negatives, positives, side="right")
        lost_seconds += float((seconds * (len(negatives) - below)).sum())
        total_seconds += float(seconds.sum() * len(negatives))
        auc_sum += float((below + not_above).mean()) / (2 * len(negatives))
        user_count += 1
    return ImpressionFigures(
        weighted_per_user_loss=lost_seconds / total_seconds if total_seconds else 0.0,
        auc_by_user=auc_sum / user_count if user_count else 0.0,
        user_count=user_count,
    )


def calibration(expected_seconds: Scores, watch_seconds: NDArray[np.float32]) -> list[dict[str, float]]:
    """Compare the mean expected and actual watch time of an impression, by decile of the expectation, lowest first.

    `ratio` is expected over actual. Both arrays are [N]; `watch_seconds` is 0 for what was not clicked.
    """
    order = np.argsort(expected_seconds, kind="stable")
    deciles = []
    for decile in np.array_split(order, DECILES):
        expected = float(expected_seconds[decile].mean(dtype=np.float64))
        actual = float(watch_seconds[decile].mean(dtype=np.float64))
        deciles.append({"expected_seconds": expected, "actual_seconds": actual, "ratio": expected / max(actual, 1e-9)})
    return deciles


def _lists_of_users(users: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield the positions of each user's impressions."""
    order = np.argsort(users, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(users[order])) + 1)
