"""Figures of a recommender's answers to held-out users, with confidence intervals by bootstrap over users.

Shape legend: B users, K rows of an answer, I items, S bootstrap samples.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from winnow.evaluation.recommenders import Recommender
from winnow.training.split import HeldOut

DEPTHS = (10, 50, 100, 200, 500)
LIST_LENGTH = 10
USERS_A_BLOCK = 512
BOOTSTRAP_SAMPLES = 1000


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What came of asking for the DEPTHS[-1] best items of each user.

    `places`, int64 [B], is where the held-out watch stands, from 0; DEPTHS[-1] where it does not. `lists`, int64
    [B, LIST_LENGTH], are the items that a user would be shown.
    """

    places: NDArray[np.int64]
    lists: NDArray[np.int64]

    @property
    def reciprocal_places(self) -> NDArray[np.float64]:
        """Of each user: 1, 1/2, 1/3, ...; 0 where the held-out watch was not found."""
        return np.where(self.places < DEPTHS[-1], 1 / (self.places + 1), 0.0)

    @property
    def gains(self) -> NDArray[np.float64]:
        """NDCG@10 of each user."""
        return np.where(self.places < LIST_LENGTH, 1 / np.log2(self.places + 2), 0.0)


def ask(recommender: Recommender, held_out: HeldOut, item_count: int) -> Answers:
    """Ask for every held-out user."""
    places, lists = [], []
    depth = min(DEPTHS[-1], item_count)
    for start in range(0, len(held_out), USERS_A_BLOCK):
        block = held_out.slice(start, min(start + USERS_A_BLOCK, len(held_out)))
        rows_BK = recommender.top(block.histories, depth)
        hit_BK = rows_BK == block.targets[:, None]
        places.append(np.where(hit_BK.any(axis=1), hit_BK.argmax(axis=1), DEPTHS[-1]))
        lists.append(rows_BK[:, :LIST_LENGTH])
    return Answers(places=np.concatenate(places), lists=np.concatenate(lists))


def measure(answers: Answers, watch_counts: NDArray[np.int64], *, seed: int) -> dict[str, float]:
    """Return every figure. `watch_counts`, int64 [I], counts the training watches of each item.

    `coverage_at_10` is the share of the catalogue that is in anybody's list, `popularity_at_10` the mean share of the
    training watches that a shown item has, `novelty_at_10` the mean information, in bits, of being shown it.
    """
    share_I = (watch_counts + 1) / (watch_counts + 1).sum()
    shown = share_I[answers.lists]
    hits = answers.places < LIST_LENGTH
    low_hit, high_hit = interval(hits.astype(np.float64), seed=seed)
    low_gain, high_gain = interval(answers.gains, seed=seed)
    return {f"hr_at_{depth}": float(np.mean(answers.places < depth)) for depth in DEPTHS} | {
        "ndcg_at_10": float(answers.gains.mean()),
        "mrr": float(answers.reciprocal_places.mean()),
        "hr_at_10_low": low_hit,
        "hr_at_10_high": high_hit,
        "ndcg_at_10_low": low_gain,
        "ndcg_at_10_high": high_gain,
        "coverage_at_10": len(np.unique(answers.lists)) / len(watch_counts),
        "popularity_at_10": float(shown.mean()),
        "novelty_at_10": float(-np.log2(shown).mean()),
    }


def interval(values_B: NDArray[np.float64], *, seed: int) -> tuple[float, float]:
    """Return the 95 % interval of the mean when users are drawn anew, with replacement."""
    rng = np.random.default_rng(seed)
    means_S = [values_B[rng.integers(0, len(values_B), len(values_B))].mean() for _ in range(BOOTSTRAP_SAMPLES)]
    low, high = np.quantile(means_S, (0.025, 0.975))
    return float(low), float(high)


def hit_rate_by(answers: Answers, groups_B: NDArray[np.int64], names: Mapping[int, str]) -> dict[str, float]:
    """Return HR@10 of each group of users, by its name; groups that nobody is in are left out."""
    hits = answers.places < LIST_LENGTH
    return {name: float(hits[groups_B == group].mean()) for group, name in names.items() if (groups_B == group).any()}
