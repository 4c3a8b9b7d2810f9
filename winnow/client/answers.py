"""What the clients' methods return: one class for each method, every field filled by the gateway."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class ScoreType(StrEnum):
    """What the scores of an answer are. Scores of different types do not compare."""

    WATCH_PROBABILITY = "WATCH_PROBABILITY"
    """The ranking network's probability that the user watches the item, in [0, 1]."""
    WATCH_SECONDS = "WATCH_SECONDS"
    """The ranking network's expected watch time if the item is shown, in seconds. No watch counts as 0."""
    CANDIDATE_LOGIT = "CANDIDATE_LOGIT"
    """The candidate network's logit, plus what tables of neighbours add to it."""
    POPULARITY = "POPULARITY"
    """The item's share of all watches in the training log."""
    UNKNOWN = "UNKNOWN"
    """A type that this version of the client does not know."""


class CandidateSource(StrEnum):
    """Where the candidates of an answer came from; further sources may have added to them."""

    NETWORK = "NETWORK"
    """The candidate network, for this history."""
    POPULAR = "POPULAR"
    """The most popular items: the history holds no known item, or the candidate stage gave no answer."""
    UNKNOWN = "UNKNOWN"
    """A source that this version of the client does not know."""


class DegradationStep(StrEnum):
    """How far an answer falls short of what both stages together would have given."""

    NONE = "NONE"
    """Not degraded."""
    CANDIDATE_ORDER = "CANDIDATE_ORDER"
    """Ranking gave no answer: candidates in candidate order."""
    POPULAR_RANKED = "POPULAR_RANKED"
    """Candidate generation gave no answer: popular items, ranked for this history."""
    POPULAR = "POPULAR"
    """Neither gave an answer: popular items by popularity."""
    WITHOUT_STORED_HISTORY = "WITHOUT_STORED_HISTORY"
    """The stored history could not be read: both stages answered for the watches of the request alone."""
    UNKNOWN = "UNKNOWN"
    """A step that this version of the client does not know."""


class AttributeType(StrEnum):
    """What the values of an attribute are."""

    TEXT = "TEXT"
    LIST = "LIST"
    """A list of texts."""
    NUMBER = "NUMBER"
    TIMESTAMP = "TIMESTAMP"
    BOOLEAN = "BOOLEAN"
    UNKNOWN = "UNKNOWN"
    """A type that this version of the client does not know."""


class MoveReason(StrEnum):
    """What caps, pinned items and diversity changed in the order of ranking."""

    PINNED = "PINNED"
    """The request pins the item to this position."""
    OTHERS_PINNED = "OTHERS_PINNED"
    """A pinned item stands before it that was ranked after it, or the other way round."""
    OTHERS_CAPPED = "OTHERS_CAPPED"
    """Items that were ranked before it are left out: their attribute values had reached a cap."""
    DIVERSITY = "DIVERSITY"
    """Diversity preferred it to an item that was ranked before it, or preferred another to it."""
    UNKNOWN = "UNKNOWN"
    """A reason that this version of the client does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Why an item of an answer stands elsewhere than ranking had put it."""

    reasons: tuple[MoveReason, ...]
    """All of them, at least one."""
    ranked_position: int | None
    """Its position among the ranked items, from 1. None for a pinned item that is not one of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemSource:
    """A candidate source that proposed an item."""

    source: str
    """`network`, `popular`, `trending`, `fresh`, `caller`, or the name of an external source."""
    place: int
    """In the list of the source, from 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredItem:
    """One item of an answer; a higher score is better."""

    item_id: str
    score: float
    sources: tuple[ItemSource, ...]
    """The sources that proposed it, where further ones took part beside the answer's `candidate_source`."""
    move: Move | None
    """None where the item stands where ranking had put it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Degradation:
    """Whether, and why, an answer falls short."""

    step: DegradationStep
    reason: str
    """The stage, or `users`, and the status it failed with: `ranking: UNAVAILABLE`. Empty if not degraded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Where the gateway's time for one call went, in milliseconds. None for a step that the call did not take."""

    total_milliseconds: float
    users_milliseconds: float | None
    """Reading the stored history."""
    wait_milliseconds: float | None
    """Waiting to be sent to a stage, together with other requests."""
    retrieve_milliseconds: float | None
    """Candidate generation as the gateway saw it: network, queue, computation."""
    retrieve_compute_milliseconds: float | None
    """Of `retrieve_milliseconds`, the computation."""
    rank_milliseconds: float | None
    """Ranking as the gateway saw it: network, queue, computation."""
    rank_compute_milliseconds: float | None
    """Of `rank_milliseconds`, the computation."""
    select_milliseconds: float | None
    """Sorting and choosing what is answered."""
    sources_milliseconds: float | None
    """Waiting for further candidate sources after candidate generation, beside which they run."""
    explain_milliseconds: float | None
    """Scoring the explained item with the whole history and without each watch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendations:
    """The best items for a watch history."""

    items: tuple[ScoredItem, ...]
    """Best first, unless caps, pinned items or diversity move items; no duplicates."""
    release_id: str
    """The release that every part of the answer was computed from."""
    score_type: ScoreType
    candidate_source: CandidateSource
    retrieved_count: int
    """How many candidates were retrieved."""
    ranked_count: int
    """How many of them were ranked: fewer if too little time was left for all, 0 if ranking gave no answer."""
    unknown_history_count: int
    """How many watches are of items that the release does not know."""
    unknown_excluded_count: int
    """How many excluded ids the release does not know."""
    unknown_allowed_count: int
    """How many allowed ids the release does not know."""
    unknown_candidate_count: int
    """How many of the caller's candidate ids the release does not know."""
    unknown_pinned_count: int
    """How many pinned ids the release does not know."""
    excluded_pinned_count: int
    """How many pinned items the request itself rules out: excluded, watched, not allowed, not matching the filter."""
    degradation: Degradation
    timing: Timing
    recommendation_id: str
    """Names this answer, for joining it with what the user did later; ids sort by time."""
    experiment_arm: str
    """The arm of the running experiment that the answer belongs to; empty where it belongs to none."""

    @property
    def degraded(self) -> bool:
        """Whether the answer falls short of what both stages together would have given."""
        return self.degradation.step is not DegradationStep.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievedItems:
    """The candidates for a watch history."""

    items: tuple[ScoredItem, ...]
    """Best first, no duplicates."""
    release_id: str
    score_type: ScoreType
    candidate_source: CandidateSource
    unknown_history_count: int
    """How many watches are of items that the release does not know."""
    unknown_excluded_count: int
    """How many excluded ids the release does not know."""
    unknown_allowed_count: int
    """How many allowed ids the release does not know."""
    timing: Timing
    recommendation_id: str
    """Names this answer, for joining it with what the user did later; ids sort by time."""
    experiment_arm: str
    """The arm of the running experiment that the answer belongs to; empty where it belongs to none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedItems:
    """The caller's items, scored for a watch history."""

    items: tuple[ScoredItem, ...]
    """Best first, no duplicates."""
    release_id: str
    score_type: ScoreType
    unknown_history_count: int
    """How many watches are of items that the release does not know."""
    unknown_item_count: int
    """How many of the given items the release does not know; they are left out."""
    timing: Timing
    recommendation_id: str
    """Names this answer, for joining it with what the user did later; ids sort by time."""
    experiment_arm: str
    """The arm of the running experiment that the answer belongs to; empty where it belongs to none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An item for display."""

    item_id: str
    title: str
    """The id itself if the release has no title."""
    attributes: Mapping[str, str]
    """The attributes that have a value, as text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """The items found for given ids."""

    by_id: Mapping[str, Item]
    """In the order asked, unknown ids left out."""
    unknown_item_ids: tuple[str, ...]
    """In the order asked."""
    release_ids: tuple[str, ...]
    """The releases that answered: one, unless a look-up of several calls met a change of release."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPage:
    """One page of the items found for a text."""

    items: tuple[Item, ...]
    """The most popular first."""
    next_page_token: str | None
    """Asks for the page after this one. None on the last page."""
    release_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """An attribute of the release's items."""

    name: str
    """What filters call it."""
    type: AttributeType
    item_count: int
    """How many items have a value."""
    distinct_count: int | None
    """How many different texts the values have, for texts and lists of texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseSchema:
    """What can be filtered by."""

    attributes: tuple[Attribute, ...]
    item_count: int
    """How many items the release has."""
    release_id: str
