"""Figures of a recommender's answers to held-out watches, with confidence intervals by bootstrap over users.

Shape legend: B held-out watches, U users, K rows of an answer, I items, S bootstrap samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from winnow.evaluation.rank_figures import LIST_LENGTH, NOT_FOUND, Ranks, gains, hits, means_of_users, rank_figures
from winnow.evaluation.recommenders import Recommender
from winnow.logs.split import HeldOut

DEPTHS = (10, 50, 100, 200, 500)
BOOTSTRAP_SAMPLES = 1000


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """The best DEPTHS[-1] items before each held-out watch, as far as figures need them.

    `ranks` [B] are those of the held-out watches, NOT_FOUND beyond DEPTHS[-1]. `lists`, int64 [B, LIST_LENGTH], is what
    a user would be shown. `users`, int64 [B], says whose watch it is.
    """

    ranks: Ranks
    lists: NDArray[np.int64]
    users: NDArray[np.int64]

    def mean(self, values_B: NDArray[np.generic]) -> float:
        """Average over users, each of whom counts the same."""
        return float(means_of_users(values_B, self.users).mean())


def ask(recommender: Recommender, held_out: HeldOut, item_count: int) -> Answers:
    """Ask for recommendations before every held-out watch."""
    ranks, lists = [], []
    depth = min(DEPTHS[-1], item_count)
    for block in held_out.blocks():
        rows_BK = recommender.top(block.histories, depth)
        hit_BK = rows_BK == block.targets[:, None]
        ranks.append(np.where(hit_BK.any(axis=1), hit_BK.argmax(axis=1), NOT_FOUND))
        lists.append(rows_BK[:, :LIST_LENGTH])
    return Answers(ranks=np.concatenate(ranks), lists=np.concatenate(lists), users=held_out.users)


def measure(answers: Answers, watch_counts: NDArray[np.int64], *, seed: int) -> dict[str, float]:
    """Return all figures. `watch_counts`, int64 [I], counts the training watches of each item.

    `coverage_at_10` is the share of the catalogue that is in any list, `popularity_at_10` the mean share of the
    training watches that a listed item has, `novelty_at_10` the mean information of a listed item in bits.
    """
    share_I = (watch_counts + 1) / (watch_counts + 1).sum()
    shown_BK = share_I[answers.lists]
    return {
        **rank_figures(answers.ranks, answers.users, DEPTHS),
        **_bounds("hr_at_10", means_of_users(hits(answers.ranks), answers.users), seed=seed),
        **_bounds("ndcg_at_10", means_of_users(gains(answers.ranks), answers.users), seed=seed),
        "coverage_at_10": len(np.unique(answers.lists)) / len(watch_counts),
        "popularity_at_10": answers.mean(shown_BK.mean(axis=1)),
        "novelty_at_10": answers.mean(-np.log2(shown_BK).mean(axis=1)),
    }


def gain(ours: Answers, theirs: Answers, *, seed: int) -> dict[str, float]:
    """Return by how much `ours` is better, and the interval of the paired differences of the same users."""
    differences = {
        "hr_at_10": hits(ours.ranks) - hits(theirs.ranks),
        "ndcg_at_10": gains(ours.ranks) - gains(theirs.ranks),
    }
    found: dict[str, float] = {}
    for name, values_B in differences.items():
        found[name] = ours.mean(values_B)
        found |= _bounds(name, means_of_users(values_B, ours.users), seed=seed)
    return found


def interval(values_U: NDArray[np.float64], *, seed: int) -> tuple[float, float]:
    """Return the 95 % interval of the mean over resampled users."""
    rng = np.random.default_rng(seed)
    means_S = [values_U[rng.integers(0, len(values_U), len(values_U))].mean() for _ in range(BOOTSTRAP_SAMPLES)]
    low, high = np.quantile(means_S, (0.025, 0.975))
    return float(low), float(high)


def by_group(answers: Answers, groups_B: NDArray[np.int64], names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return HR@10, NDCG@10 and the share of all watches of each named group; empty groups are left out."""
    found = {}
    for group, name in enumerate(names):
        members = groups_B == group
        if members.any():
            figures = rank_figures(answers.ranks[members], answers.users[members])
            found[name] = {
                "hr_at_10": figures["hr_at_10"],
                "ndcg_at_10": figures["ndcg_at_10"],
                "share_of_watches": float(members.mean()),
            }
    return found


def _bounds(name: str, values_U: NDArray[np.float64], *, seed: int) -> dict[str, float]:
    low, high = interval(values_U, seed=seed)
    return {f"{name}_low": low, f"{name}_high": high}
