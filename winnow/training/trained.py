"""What either way of training a pair of networks hands over to the release."""

from collections.abc import Mapping
from dataclasses import dataclass

from winnow.contexts import RequestContexts
from winnow.history import WatchHistories
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.ranking import DeepRankingModel
from winnow.training.checkpoint import EpochLog

Figures = Mapping[str, Mapping[str, Mapping[str, float]]]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Both networks, how the epochs of each went, and their figures by part of the data and by what was judged."""

    candidate_network: DeepCandidateGenerationModel
    ranking_network: DeepRankingModel
    epochs: Mapping[str, EpochLog]
    figures: Figures
    max_training_timestamp: int
    """When the latest watch was that the candidate network learned from, in seconds since 1970."""
    sample_histories: WatchHistories
    """A few histories, for the golden requests."""
    sample_contexts: RequestContexts | None = None
    """What else was known of those requests."""
