"""Figures of a recommender's answers to held-out watches, with confidence intervals by bootstrap over users.

Shape legend: B held-out watches, U users, K rows of an answer, I items, S bootstrap samples.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from winnow.evaluation.calibration import calibration
from winnow.evaluation.rank_figures import LIST_LENGTH, Ranks, gains, hits, means_of_users, rank_figures
from winnow.evaluation.ranks import places_of_targets
from winnow.evaluation.recommenders import Chain, Recommender
from winnow.history import RaggedRows
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


@dataclass(frozen=True, kw_only=True, eq=False)
class StageAnswers:
    """What both stages answer to the same watches, and the calibration of the chain's probabilities."""

    candidate: Answers
    chain: Answers
    calibration: list[dict[str, float]]


def ask(
    recommender: Recommender,
    held_out: HeldOut,
    item_count: int,
    *,
    seen: Callable[[RaggedRows], RaggedRows] = lambda histories: histories,
    advance: Callable[[int], None] = lambda _: None,
) -> Answers:
    """Ask for recommendations before every held-out watch.

    `item_count` items may be listed. `seen` turns the histories of a block into what the recommender sees of them.
    `advance` is told how many watches have been answered after each block.
    """
    answers = _Collected(held_out)
    for block in held_out.blocks():
        answers.add(block, recommender.top(seen(block.histories), min(DEPTHS[-1], item_count)))
        advance(len(block))
    return answers.collected()


def ask_stages(
    chain: Chain,
    held_out: HeldOut,
    item_count: int,
    *,
    seen: Callable[[RaggedRows], RaggedRows] = lambda histories: histories,
    advance: Callable[[int], None] = lambda _: None,
) -> StageAnswers:
    """Ask both stages in one pass, in which candidates are retrieved once; see `ask`."""
    by_candidate, by_chain = _Collected(held_out), _Collected(held_out)
    predicted, actual = [], []
    for block in held_out.blocks():
        rows_BK, ranked_BK, probabilities_BK = chain.both(seen(block.histories), min(DEPTHS[-1], item_count))
        by_candidate.add(block, rows_BK)
        by_chain.add(block, ranked_BK)
        scored_BK = rows_BK[:, : probabilities_BK.shape[1]]
        predicted.append(probabilities_BK[:, : scored_BK.shape[1]].ravel())
        actual.append((scored_BK == block.targets[:, None]).ravel())
        advance(len(block))
    return StageAnswers(
        candidate=by_candidate.collected(),
        chain=by_chain.collected(),
        calibration=calibration(np.concatenate(predicted), np.concatenate(actual)),
    )


class _Collected:
    """Answers, block by block."""

    def __init__(self, held_out: HeldOut) -> None:
        self._users = held_out.users
        self._ranks: list[Ranks] = []
        self._lists: list[NDArray[np.int64]] = []

    def add(self, block: HeldOut, rows_BK: NDArray[np.int64]) -> None:
        self._ranks.append(places_of_targets(rows_BK, block.targets, block.histories))
        # Copied, so that the rest of the answer can be forgotten.
        self._lists.append(rows_BK[:, :LIST_LENGTH].copy())

    def collected(self) -> Answers:
        return Answers(ranks=np.concatenate(self._ranks), lists=np.concatenate(self._lists), users=self._users)


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


def gain(ours: Ranks, theirs: Ranks, users: NDArray[np.int64], *, seed: int) -> dict[str, float]:
    """Return by how much `ours` is better, and the interval of the paired differences of the same users; all [B]."""
    differences = {"hr_at_10": hits(ours) - hits(theirs), "ndcg_at_10": gains(ours) - gains(theirs)}
    found: dict[str, float] = {}
    for name, values_B in differences.items():
        values_U = means_of_users(values_B, users)
        found[name] = float(values_U.mean())
        found |= _bounds(name, values_U, seed=seed)
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
