"""What `similar` and `explain` return."""

from dataclasses import dataclass
from enum import StrEnum

from winnow.client.answers import CandidateSource, ItemSource, ScoredItem, ScoreType, Timing


class AbsenceReason(StrEnum):
    """Why an item is not among the candidates."""

    UNKNOWN = "UNKNOWN"
    """The release does not know the item."""
    EXCLUDED = "EXCLUDED"
    """It is one of `excluded_item_ids`."""
    WATCHED = "WATCHED"
    """It is in the history, and watched items are left out."""
    NOT_ALLOWED = "NOT_ALLOWED"
    """There are `allowed_item_ids`, and it is not one of them."""
    FILTERED = "FILTERED"
    """It does not match the filter."""
    BELOW_CUT = "BELOW_CUT"
    """It scores no more than the last of as many candidates as are retrieved."""
    MISSED = "MISSED"
    """It scores more than the last candidate, but the approximate index has missed it."""
    RETIRED = "RETIRED"
    """The release does not recommend the item any more."""
    DISMISSED = "DISMISSED"
    """The user has dismissed it."""
    OTHER = "OTHER"
    """A reason that this version of the client does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarItems:
    """Items that are watched after the given ones."""

    items: tuple[ScoredItem, ...]
    """Best first, no duplicates."""
    release_id: str
    score_type: ScoreType
    candidate_source: CandidateSource
    """POPULAR if the release knows none of the given items."""
    unknown_item_count: int
    """How many of the given items the release does not know."""
    unknown_excluded_count: int
    """How many excluded ids the release does not know."""
    unknown_allowed_count: int
    """How many allowed ids the release does not know."""
    timing: Timing
    recommendation_id: str
    """Names this answer, for joining it with what the user did later; ids sort by time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalExplanation:
    """The item in retrieval."""

    place: int | None
    """Its place among the candidates of `candidate_source`, from 1; None if it is not one of them."""
    absence_reasons: tuple[AbsenceReason, ...]
    """Why it is not one of them: every reason that holds."""
    unmet_conditions: tuple[str, ...]
    """The conditions of the filter that it does not meet."""
    score: float | None
    """What candidates are ordered by, also if it is not one of them; None if the release does not know the item."""
    cut_score: float | None
    """The score of the last candidate; None if there is none."""
    score_type: ScoreType | None
    """None if the release does not know the item."""
    candidate_source: CandidateSource | None
    """None if the release does not know the item."""
    retrieved_count: int
    """How many candidates `candidate_source` gave."""
    sources: tuple[ItemSource, ...]
    """The further sources that proposed the item: it is ranked then, even if it is not among those candidates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingExplanation:
    """The item in ranking, whether or not it is a candidate."""

    score: float
    score_type: ScoreType
    place: int
    """Its place among the candidates that were ranked, from 1, or the place that it would have."""
    ranked_count: int
    """How many candidates were ranked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchContribution:
    """What the scores of the item lose if one watch is left out."""

    position: int
    """Of the watch in the history, from 0."""
    item_id: str
    candidate_logit: float
    ranking_score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why an item is, or is not, recommended."""

    release_id: str
    retrieval: RetrievalExplanation
    ranking: RankingExplanation | None
    """None if the release does not know the item."""
    contributions: tuple[WatchContribution, ...]
    """Of the most recent watches, oldest first. They do not add up to the score: each leaves out one watch only."""
    unknown_history_count: int
    """How many watches are of items that the release does not know."""
    unknown_excluded_count: int
    """How many excluded ids the release does not know."""
    unknown_allowed_count: int
    """How many allowed ids the release does not know."""
    timing: Timing
    recommendation_id: str
    """Names this answer; ids sort by time."""
    experiment_arm: str
    """The arm of the running experiment whose release explains; empty where there is none."""

    @property
    def known(self) -> bool:
        """Whether the release knows the item."""
        return self.ranking is not None
