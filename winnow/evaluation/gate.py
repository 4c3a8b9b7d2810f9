"""Whether a new release is made current: not where something simpler, or the current release, ranks better.

Shape legend: B held-out watches, U users.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from winnow.catalogue.vocabulary import Vocabulary
from winnow.evaluation.rank_figures import LIST_LENGTH, NOT_FOUND, Ranks, gains, means_of_users
from winnow.evaluation.recommender_figures import interval
from winnow.evaluation.recommenders import CandidateOrder, Chain
from winnow.history import WatchHistories
from winnow.logs.split import HeldOut
from winnow.release.models.loader import load_candidate_network, load_ranking_network
from winnow.release.reader import Release

SEED = 1


@dataclass(frozen=True, kw_only=True)
class Rival:
    """What a release was compared with: NDCG@10 on validation, and by how much the release is better, with 95 % bounds.

    Differences are paired by user.
    """

    name: str
    ndcg_at_10: float
    difference: float
    low: float
    high: float

    @property
    def better(self) -> bool:
        """Whether it is better than the release beyond noise."""
        return self.high < 0


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a release was compared with."""

    ndcg_at_10: float
    rivals: tuple[Rival, ...]
    part: str = "validation"
    """What both were measured on."""

    @property
    def passed(self) -> bool:
        """Whether no rival is better beyond noise."""
        return not any(rival.better for rival in self.rivals)

    def __str__(self) -> str:
        """Return one line per rival, and what the release itself reaches."""
        lines = [f"NDCG@10 on {self.part}: {self.ndcg_at_10:.4f}"]
        for rival in self.rivals:
            word = "worse than" if rival.better else "compared with"
            lines.append(
                f"{word} {rival.name}, {rival.ndcg_at_10:.4f}: {rival.difference:+.4f} "
                f"({rival.low:+.4f} to {rival.high:+.4f})"
            )
        return "; ".join(lines)


def judge(
    ours: Ranks,
    baselines: Mapping[str, Ranks],
    current: Mapping[str, Ranks],
    users: NDArray[np.int64],
    *,
    part: str = "validation",
) -> Verdict:
    """Compare ranks, each [B], of the held-out watches of `users`: with the best baseline, and with `current`.

    `current` has the ranks of the current release by its name, or is empty. `part` says which watches these are.
    """
    of_baselines = {name: means_of_users(gains(ranks), users) for name, ranks in baselines.items()}
    rivals_U: dict[str, NDArray[np.float64]] = {}
    if of_baselines:
        best = max(of_baselines, key=lambda name: float(of_baselines[name].mean()))
        rivals_U[f"{best}, the best baseline"] = of_baselines[best]
    rivals_U |= {name: means_of_users(gains(ranks), users) for name, ranks in current.items()}
    ours_U = means_of_users(gains(ours), users)
    return Verdict(
        ndcg_at_10=float(ours_U.mean()),
        rivals=tuple(_rival(name, ours_U, theirs_U) for name, theirs_U in rivals_U.items()),
        part=part,
    )


def ranks_of_release(release: Release, vocabulary: Vocabulary, held_out: HeldOut, device: torch.device) -> Ranks:
    """Rank held-out watches, whose rows are those of `vocabulary`, by a release with another vocabulary.

    Items that the release does not know are left out of the histories, and are not found as targets. Where its ranking
    network learned from impressions, the candidates' order is ranked. Raises ReleaseError where the networks of the
    release cannot be loaded.
    """
    row_there_I = vocabulary.rows_in(release.vocabulary())
    training = release.manifest.training
    candidate_network = load_candidate_network(release, device)
    recommender: CandidateOrder | Chain = CandidateOrder(candidate_network)
    if training.get("impressions_sha256") is None:
        candidate_count = int(training.get("settings", {}).get("ranking", {}).get("candidate_count", 200))
        recommender = Chain(candidate_network, load_ranking_network(release, device), candidate_count)
    ranks = []
    for block in held_out.blocks():
        rows_BK = recommender.top(_known(WatchHistories.of(block.histories), row_there_I), LIST_LENGTH)
        hit_BK = rows_BK == row_there_I[block.targets][:, None]
        ranks.append(np.where(hit_BK.any(axis=1), hit_BK.argmax(axis=1), NOT_FOUND))
    return np.concatenate(ranks)


def _known(histories: WatchHistories, row_there_I: NDArray[np.int32]) -> WatchHistories:
    rows = row_there_I[histories.rows]
    kept = rows >= 0
    lists = np.repeat(np.arange(len(histories)), histories.lengths)[kept]
    return WatchHistories.from_lengths(
        rows[kept],
        np.bincount(lists, minlength=len(histories)),
        histories.weights[kept],
        histories.timestamps[kept],
    )


def _rival(name: str, ours_U: NDArray[np.float64], theirs_U: NDArray[np.float64]) -> Rival:
    low, high = interval(ours_U - theirs_U, seed=SEED)
    return Rival(
        name=name,
        ndcg_at_10=float(theirs_U.mean()),
        difference=float((ours_U - theirs_U).mean()),
        low=low,
        high=high,
    )
