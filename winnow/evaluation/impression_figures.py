"""Figures of a ranking network on impressions: how well it orders those of a user, and whether its watch time is true.

Shape legend: N impressions.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from winnow.evaluation.calibration import calibration
from winnow.evaluation.impression_scores import impression_scores
from winnow.logs.impressions import Impressions
from winnow.networks.ranking import DeepRankingModel

Scores = NDArray[np.floating]


def impression_figures(network: DeepRankingModel, impressions: Impressions) -> dict[str, float]:
    """Judge a network on impressions: their order and, where it answers with watch time, whether that is true."""
    return figures_of_scores(
        impression_scores(network, impressions), impressions, in_seconds=network.score == "watch_seconds"
    )


def figures_of_scores(scores: Scores, impressions: Impressions, *, in_seconds: bool) -> dict[str, float]:
    """Judge the scores [N] of N impressions; also as an expected watch time where they are `in_seconds`."""
    found = order_figures(impressions.users, scores, impressions.clicked, impressions.watch_seconds)
    if not in_seconds:
        return found
    deciles = calibration(scores, impressions.watch_seconds)
    ratios = [decile["predicted"] / max(decile["actual"], 1e-9) for decile in deciles]
    found["expected_over_actual"] = float(scores.mean(dtype=np.float64) / impressions.watch_seconds.mean())
    found["worst_inner_decile"] = max(abs(ratio - 1) for ratio in ratios[1:-1])
    return found | {f"expected_over_actual_decile_{number}": ratio for number, ratio in enumerate(ratios, start=1)}


def order_figures(
    users: NDArray[np.int64], scores: Scores, clicked: NDArray[np.bool_], watch_seconds: NDArray[np.float32]
) -> dict[str, float]:
    """Judge the order of the scores by pairs of a clicked and an unclicked impression of one user; arrays are [N].

    `weighted_per_user_loss` (paper, section 4.3) is the watch time of the pairs in which the unclicked impression has
    no lower score, as a share of the watch time of all pairs. `auc_by_user` is the share of a user's pairs in the right
    order, where a tie is half a pair, averaged over the `user_count` users who have pairs.
    """
    lost_seconds = total_seconds = auc_sum = 0.0
    user_count = 0
    for of_user in _positions_by_user(users):
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
    return {
        "weighted_per_user_loss": lost_seconds / total_seconds if total_seconds else 0.0,
        "auc_by_user": auc_sum / user_count if user_count else 0.0,
        "user_count": float(user_count),
    }


def _positions_by_user(users: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    order = np.argsort(users, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(users[order])) + 1)
