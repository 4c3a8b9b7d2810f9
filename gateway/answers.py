"""What the gateway answers with, in rows of one release."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from winnow.history import Rows


class ScoreType(IntEnum):
    """What the scores of an answer are. Values are those of winnow.v1.ScoreType."""

    WATCH_PROBABILITY = 1
    WATCH_SECONDS = 2
    CANDIDATE_LOGIT = 3
    POPULARITY = 4


class CandidateSource(IntEnum):
    """Where candidates came from. Values are those of winnow.v1.CandidateSource."""

    NETWORK = 1
    POPULAR = 2


class DegradationStep(IntEnum):
    """How far an answer falls short of the full chain. Values are those of winnow.v1.DegradationStep."""

    NONE = 1
    CANDIDATE_ORDER = 2
    POPULAR_RANKED = 3
    POPULAR = 4
    WITHOUT_STORED_HISTORY = 5


class MoveReason(IntEnum):
    """What selection changed in the order of ranking. Values are those of winnow.v1.MoveReason."""

    PINNED = 1
    OTHERS_PINNED = 2
    OTHERS_CAPPED = 3
    DIVERSITY = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Why an item of an answer stands elsewhere than ranking had put it."""

    reasons: tuple[MoveReason, ...]
    ranked_position: int | None
    """Its position among the ranked items, from 1; None where it is not one of them."""


NO_MOVES: Mapping[int, Move] = MappingProxyType({})


# The answers are not frozen: one is made for every request, and a frozen one takes twice as long to make.
@dataclass(slots=True, kw_only=True)
class Timing:
    """Where the time of one request went, in microseconds; None for a step that it did not take."""

    users: int | None = None
    wait: int | None = None
    retrieve: int | None = None
    retrieve_compute: int | None = None
    rank: int | None = None
    rank_compute: int | None = None
    select: int | None = None
    sources: int | None = None
    explain: int | None = None


class SourcePlaces(NamedTuple):
    """Where one source has the items of an answer."""

    source: str
    places: NDArray[np.int32]
    """One for each item, from 1; 0 where the source has not proposed it."""


@dataclass(slots=True, kw_only=True, eq=False)
class ScoredRows:
    """Rows, best first, without duplicates, and the score of each of them."""

    rows: Rows
    scores: NDArray[np.float32]
    score_type: ScoreType
    timing: Timing


@dataclass(slots=True, kw_only=True, eq=False)
class RetrievedRows(ScoredRows):
    """Candidates in candidate order."""

    source: CandidateSource


@dataclass(slots=True, kw_only=True, eq=False)
class Recommendation(RetrievedRows):
    """The best of the candidates."""

    retrieved_count: int
    ranked_count: int
    """Fewer than were retrieved where too little time was left for all; 0 where ranking gave no answer."""
    degradation: DegradationStep
    degradation_reason: str
    places: Sequence[SourcePlaces] = ()
    """Of every source that took part, where there are further ones beside `source`."""
    moves: Mapping[int, Move] = field(default_factory=lambda: NO_MOVES)
    """Why items stand elsewhere than ranking had put them, by their place in the answer, from 0."""
    excluded_pinned_count: int = 0
    """How many pinned items the request itself rules out."""
