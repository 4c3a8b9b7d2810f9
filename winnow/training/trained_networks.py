"""What both ways of training hand over to the release."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from winnow.contexts import RequestContexts
from winnow.evaluation.rank_figures import Ranks
from winnow.history import WatchHistories
from winnow.logs.split import HeldOut
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.ranking import DeepRankingModel
from winnow.networks.recalibration import CorrectionFactors
from winnow.training.checkpoint import EpochLog

# Golden requests.
SAMPLE_COUNT = 16
# Held-out histories that an approximate index is tuned on.
TUNING_COUNT = 500


@dataclass(frozen=True, kw_only=True, eq=False)
class Validated:
    """The validation watches, and how the chain and each baseline rank them."""

    held_out: HeldOut
    chain: Ranks
    baselines: Mapping[str, Ranks]


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedNetworks:
    """Both networks, how the epochs of each went, and how good they are."""

    candidate_network: DeepCandidateGenerationModel
    ranking_network: DeepRankingModel
    epochs: Mapping[str, EpochLog]
    figures: Mapping[str, Mapping[str, Mapping[str, float]]]
    """By part of the data (validation, test) and by what was measured."""
    max_training_timestamp: int
    """The time of the latest watch that the candidate network learned from, in seconds since 1970."""
    sample_histories: WatchHistories
    """For the golden requests."""
    tuning_histories: WatchHistories
    """For the index; none of them is empty, since the gateway does not send empty histories to the candidate stage."""
    sample_contexts: RequestContexts | None = None
    """What else is known of the golden requests."""
    correction_factors: CorrectionFactors | None = None
    """How much of the ranking network's correction is used; None where ranking learned from impressions."""
    neighbour_weights: Mapping[str, float] | None = None
    """How much the sums of neighbours count in ranking, by table; None where ranking learned from impressions."""
    candidate_neighbours: Mapping[str, Any] | None = None
    """What CandidateNeighbours found, as JSON; None where there was nothing to add."""
    validated: Validated | None = None
    """None where ranking learned from impressions: its scores do not predict the next watch."""


def evenly_spread(available: int, count: int) -> NDArray[np.int64]:
    """Return at most `count` positions, spread evenly over range(available), int64."""
    return np.linspace(0, available - 1, min(count, available)).astype(np.int64)
