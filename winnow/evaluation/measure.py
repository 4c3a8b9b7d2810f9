"""Figures of a recommender's answers to held-out watches, with confidence intervals by bootstrap over users.

Shape legend: B held-out watches, U users, K rows of an answer, I items, S bootstrap samples, N predictions, D groups.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from winnow.evaluation.recommenders import Recommender
from winnow.logs.split import HeldOut, means_of_users

DEPTHS = (10, 50, 100, 200, 500)
LIST_LENGTH = 10
WATCHES_A_BLOCK = 512
BOOTSTRAP_SAMPLES = 1000


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What came of asking for the DEPTHS[-1] best items before each held-out watch.

    `places`, int64 [B], is where the held-out watch stands, from 0; DEPTHS[-1] where it does not. `lists`, int64
    [B, LIST_LENGTH], are the items that a user would be shown. `users`, int64 [B], says whose watch it is.
    """

    places: NDArray[np.int64]
    lists: NDArray[np.int64]
    users: NDArray[np.int64]

    def mean(self, values_B: NDArray[np.generic]) -> float:
        """Average over users, of whom each counts the same."""
        return float(means_of_users(values_B, self.users).mean())

    @property
    def hits(self) -> NDArray[np.float64]:
        """1 where the held-out watch is among the first LIST_LENGTH, else 0."""
        return (self.places < LIST_LENGTH).astype(np.float64)

    @property
    def gains(self) -> NDArray[np.float64]:
        """NDCG@LIST_LENGTH of each watch."""
        return np.where(self.places < LIST_LENGTH, 1 / np.log2(self.places + 2), 0.0)

    @property
    def reciprocal_places(self) -> NDArray[np.float64]:
        """Of each watch: 1, 1/2, 1/3, ...; 0 where it was not found."""
        return np.where(self.places < DEPTHS[-1], 1 / (self.places + 1), 0.0)


def ask(recommender: Recommender, held_out: HeldOut, item_count: int) -> Answers:
    """Ask before every held-out watch."""
    places, lists = [], []
    depth = min(DEPTHS[-1], item_count)
    for start in range(0, len(held_out), WATCHES_A_BLOCK):
        block = held_out.slice(start, min(start + WATCHES_A_BLOCK, len(held_out)))
        rows_BK = recommender.top(block.histories, depth)
        hit_BK = rows_BK == block.targets[:, None]
        places.append(np.where(hit_BK.any(axis=1), hit_BK.argmax(axis=1), DEPTHS[-1]))
        lists.append(rows_BK[:, :LIST_LENGTH])
    return Answers(places=np.concatenate(places), lists=np.concatenate(lists), users=held_out.users)


def measure(answers: Answers, watch_counts: NDArray[np.int64], *, seed: int) -> dict[str, float]:
    """Return every figure. `watch_counts`, int64 [I], counts the training watches of each item.

    `coverage_at_10` is the share of the catalogue that is in anybody's list, `popularity_at_10` the mean share of the
    training watches that a shown item has, `novelty_at_10` the mean information, in bits, of being shown it.
    """
    share_I = (watch_counts + 1) / (watch_counts + 1).sum()
    shown_BK = share_I[answers.lists]
    return {
        **{f"hr_at_{depth}": answers.mean(answers.places < depth) for depth in DEPTHS},
        "ndcg_at_10": answers.mean(answers.gains),
        "mrr": answers.mean(answers.reciprocal_places),
        **_bounds("hr_at_10", means_of_users(answers.hits, answers.users), seed=seed),
        **_bounds("ndcg_at_10", means_of_users(answers.gains, answers.users), seed=seed),
        "coverage_at_10": len(np.unique(answers.lists)) / len(watch_counts),
        "popularity_at_10": answers.mean(shown_BK.mean(axis=1)),
        "novelty_at_10": answers.mean(-np.log2(shown_BK).mean(axis=1)),
    }


def gain(ours: Answers, theirs: Answers, *, seed: int) -> dict[str, float]:
    """Return by how much `ours` is better for the same users, and the interval of that: what is paired varies less."""
    differences = {"hr_at_10": ours.hits - theirs.hits, "ndcg_at_10": ours.gains - theirs.gains}
    found: dict[str, float] = {}
    for name, values_B in differences.items():
        found[name] = ours.mean(values_B)
        found |= _bounds(name, means_of_users(values_B, ours.users), seed=seed)
    return found


def interval(values_U: NDArray[np.float64], *, seed: int) -> tuple[float, float]:
    """Return the 95 % interval of the mean when users are drawn anew, with replacement."""
    rng = np.random.default_rng(seed)
    means_S = [values_U[rng.integers(0, len(values_U), len(values_U))].mean() for _ in range(BOOTSTRAP_SAMPLES)]
    low, high = np.quantile(means_S, (0.025, 0.975))
    return float(low), float(high)


def by_group(answers: Answers, groups_B: NDArray[np.int64], names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return HR@10, NDCG@10 and the share of the watches of each group, by its name; empty groups are left out."""
    found = {}
    for group, name in enumerate(names):
        members = groups_B == group
        if members.any():
            users = answers.users[members]
            found[name] = {
                "hr_at_10": float(means_of_users(answers.hits[members], users).mean()),
                "ndcg_at_10": float(means_of_users(answers.gains[members], users).mean()),
                "share_of_watches": float(members.mean()),
            }
    return found


def calibration(
    predicted_N: NDArray[np.floating], actual_N: NDArray[np.generic], *, group_count: int = 10
) -> list[dict[str, float]]:
    """Cut predictions, from small to large, into D groups of equal size: the mean of each beside what came of it."""
    order = np.argsort(predicted_N, kind="stable")
    return [
        {"predicted": float(predicted_N[group].mean()), "actual": float(actual_N[group].mean())}
        for group in np.array_split(order, group_count)
    ]


def _bounds(name: str, values_U: NDArray[np.float64], *, seed: int) -> dict[str, float]:
    low, high = interval(values_U, seed=seed)
    return {f"{name}_low": low, f"{name}_high": high}
