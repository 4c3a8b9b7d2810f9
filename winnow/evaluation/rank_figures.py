"""Figures of ranks: hit rates, NDCG@10 and mean reciprocal rank, in which every user counts the same.

Shape legend: B held-out watches, U users.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ranks = NDArray[np.int64]
"""Where each held-out watch is in the list of its user: 0 is the top, NOT_FOUND is nowhere."""

NOT_FOUND = np.iinfo(np.int64).max
HIT_RATE_DEPTHS = (10, 50, 100, 200)
# What a user is shown.
LIST_LENGTH = 10


def rank_figures(ranks: Ranks, users: NDArray[np.int64], depths: Sequence[int] = HIT_RATE_DEPTHS) -> dict[str, float]:
    """Summarise ranks [B] of the watches of `users`, int64 [B]."""
    of_watches = {
        **{f"hr_at_{depth}": hits(ranks, depth) for depth in depths},
        "ndcg_at_10": gains(ranks),
        "mrr": np.where(ranks != NOT_FOUND, 1 / (np.where(ranks != NOT_FOUND, ranks, 0) + 1.0), 0.0),
    }
    return {name: float(means_of_users(values, users).mean()) for name, values in of_watches.items()}


def hits(ranks: Ranks, depth: int = LIST_LENGTH) -> NDArray[np.float64]:
    """Return 1 for each watch among the first `depth`, else 0, float64 [B]."""
    return (ranks < depth).astype(np.float64)


def gains(ranks: Ranks) -> NDArray[np.float64]:
    """Return NDCG@LIST_LENGTH of each watch, float64 [B]."""
    return np.where(ranks < LIST_LENGTH, 1 / np.log2(np.minimum(ranks, LIST_LENGTH) + 2), 0.0)


def means_of_users(values_B: NDArray[np.generic], users_B: NDArray[np.int64]) -> NDArray[np.float64]:
    """Average the values of each user, float64 [U]."""
    _, user_B, counts_U = np.unique(users_B, return_inverse=True, return_counts=True)
    means_U: NDArray[np.float64] = np.bincount(user_B, values_B) / counts_U
    return means_U
