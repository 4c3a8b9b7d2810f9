"""How much of the ranking network's correction of the candidates' order is used: fitted on validation, zero included.

Shape legend: B held-out watches, U users.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from winnow.evaluation.rank_figures import Ranks, gains, means_of_users
from winnow.evaluation.ranks import chain_logits, corrected_ranks
from winnow.logs.split import HeldOut
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.ranking import DeepRankingModel
from winnow.networks.recalibration import WHOLE_CORRECTION, CorrectionFactors, scale_correction

# Shares of each part of the correction that are tried, all combinations; the least correction first.
SHARES = (0.0, 0.25, 0.5, 1.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Correction:
    """The shares of the correction that validate best, and the ranks of the validation watches with them, int64 [B]."""

    factors: CorrectionFactors
    ranks: Ranks


def fit_correction(
    candidate_network: DeepCandidateGenerationModel,
    ranking_network: DeepRankingModel,
    validation: HeldOut,
    *,
    candidate_count: int,
) -> Correction:
    """Choose the factors with the best NDCG@10 on validation.

    They are 0, which is the candidates' order, unless the gain over that order is larger than its standard error.
    """
    factors = possible_factors(ranking_network)
    of_factors = corrected_ranks(
        candidate_network, ranking_network, validation, candidate_count=candidate_count, factors=factors
    )
    return best_correction(factors, of_factors, validation.users)


def use_correction(
    candidate_network: DeepCandidateGenerationModel,
    ranking_network: DeepRankingModel,
    validation: HeldOut,
    *,
    candidate_count: int,
) -> CorrectionFactors:
    """Make the network use as much of its correction of the candidates' order as validates best; return how much.

    Without matching there is nothing to correct, and all is used.
    """
    if ranking_network.matching is None:
        return WHOLE_CORRECTION
    factors = fit_correction(candidate_network, ranking_network, validation, candidate_count=candidate_count).factors
    scale_correction(ranking_network, factors, 0.0)
    return factors


def best_correction(
    factors: Sequence[CorrectionFactors], of_factors: Sequence[Ranks], users: NDArray[np.int64]
) -> Correction:
    """Choose among factors, NO_CORRECTION first, by the ranks of the watches of `users` with each of them."""
    means = [means_of_users(gains(ranks), users) for ranks in of_factors]
    # Among equals the first.
    best = int(np.argmax([mean_U.mean() for mean_U in means]))
    if not larger_than_noise(means[best] - means[0]):
        best = 0
    return Correction(factors=factors[best], ranks=of_factors[best])


def possible_factors(network: DeepRankingModel) -> list[CorrectionFactors]:
    """Return all combinations of SHARES, NO_CORRECTION first; one that no part of the network has is 0."""
    has_successions = network.matching is not None and network.matching.successions is not None
    of_successions = SHARES if has_successions else SHARES[:1]
    return [CorrectionFactors(tower, successions) for tower in SHARES for successions in of_successions]


def shift_to_hits(
    candidate_network: DeepCandidateGenerationModel,
    ranking_network: DeepRankingModel,
    validation: HeldOut,
    *,
    candidate_count: int,
) -> float:
    """Return what has to be added to the logits so that probabilities sum to the number of targets that were found.

    It is 0 where none was.
    """
    logits_N, hit_N = chain_logits(candidate_network, ranking_network, validation, candidate_count=candidate_count)
    hit_count = int(hit_N.sum())
    if not 0 < hit_count < len(hit_N):
        return 0.0
    low, high = -100.0, 100.0
    # The sum rises with the shift: halve the range to less than the resolution of float32.
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if torch.sigmoid(logits_N + middle).sum() > hit_count else (middle, high)
    return (low + high) / 2


def larger_than_noise(differences_U: NDArray[np.float64]) -> bool:
    """Return whether the mean of paired differences is larger than its standard error."""
    standard_error = differences_U.std() / np.sqrt(len(differences_U))
    return bool(differences_U.mean() > standard_error)
