"""Why an item is, or is not, recommended.

The request is answered like any other, up to ranking, and the item is looked for among the candidates. Then it is
scored by itself.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NoReturn

import numpy as np

from gateway import ladder
from gateway.admission import check_time
from gateway.answers import CandidateSource, ScoreType, Timing
from gateway.leave_one_out import ItemScores, LeaveOneOut
from gateway.ranking import Ranked
from gateway.requests import CandidateRequest
from gateway.selection import best
from gateway.served_catalogue import ServedCatalogue
from gateway.sources.gathered import Gathered
from gateway.stage_calls import StageFailure
from winnow.rpc.errors import DeadlineError, StageUnavailableError

Recommend = Callable[[CandidateRequest], Awaitable[tuple[Gathered, Ranked]]]
"""Takes a request through both stages."""

# The same logit in two batches may differ by its last bits.
LOGIT_TOLERANCE = 1e-4


class AbsenceReason(IntEnum):
    """Why an item is not among the candidates. Values are those of winnow.v1.AbsenceReason."""

    UNKNOWN = 1
    EXCLUDED = 2
    WATCHED = 3
    NOT_ALLOWED = 4
    FILTERED = 5
    BELOW_CUT = 6
    MISSED = 7
    RETIRED = 8
    DISMISSED = 9


@dataclass(kw_only=True, eq=False, slots=True)
class ExplainRequest:
    """An item, and the recommendation that it is or is not in."""

    row: int | None
    """Of the item; None where the release does not know it."""
    recommendation: CandidateRequest
    excluded: bool
    """Whether the caller excluded the item by its id."""
    watched: bool
    """Whether the history has it and watched items are left out."""
    dismissed: bool
    """Whether the store has a dismissal of it by the user."""
    watch_count: int
    """Of how many of the latest watches to tell the contribution, at most."""
    positions: Sequence[int]
    """Where each known watch is in the history that was given."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class RetrievalExplanation:
    """The item among the candidates. All but the reasons is None, empty or 0 where it is unknown or retired."""

    place: int | None = None
    """From 1; None where it is not one of them."""
    reasons: Sequence[AbsenceReason] = ()
    unmet_conditions: Sequence[str] = ()
    score: float | None = None
    cut_score: float | None = None
    """Of the last candidate; None where there is none."""
    score_type: ScoreType | None = None
    source: CandidateSource | None = None
    retrieved_count: int = 0
    """How many candidates `source` gave."""
    further: Sequence[tuple[str, int]] = ()
    """The other sources that proposed the item, each with its place in their list."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class RankingExplanation:
    """The item among the candidates that were ranked."""

    score: float
    score_type: ScoreType
    place: int
    """From 1; the place that it would have where it is not one of them."""
    ranked_count: int


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class WatchContribution:
    """By how much the scores of the item are higher than without one watch."""

    position: int
    """In the history that was given."""
    row: int
    """Of the watched item."""
    candidate_logit: float
    ranking_score: float


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Explanation:
    """What became of the item."""

    retrieval: RetrievalExplanation
    ranking: RankingExplanation | None = None
    contributions: Sequence[WatchContribution] = ()
    timing: Timing


class Explainer:
    """Explains from one release."""

    def __init__(self, catalogue: ServedCatalogue, leave_one_out: LeaveOneOut) -> None:
        self._catalogue = catalogue
        self._leave_one_out = leave_one_out

    async def explain(self, request: ExplainRequest, recommend: Recommend, *, other_release: bool) -> Explanation:
        """Raise StageUnavailableError where a stage gives no answer; else as Pipeline.recommend."""
        row, asked = request.row, request.recommendation
        if row is None:
            return Explanation(retrieval=RetrievalExplanation(reasons=[AbsenceReason.UNKNOWN]), timing=Timing())
        if self._catalogue.is_retired(row):
            return Explanation(retrieval=RetrievalExplanation(reasons=[AbsenceReason.RETIRED]), timing=Timing())
        check_time(self._leave_one_out.expected_seconds(), asked.deadline)
        asked.permitted = await self._catalogue.filters.permitted(asked.restriction)
        gathered, ranked = await recommend(asked)
        for failure in (gathered.failure, ranked.failure):
            if failure is not None:
                _refuse(failure, other_release=other_release)
        try:
            scores = await self._leave_one_out.scores(asked, row, request.watch_count)
        except DeadlineError:
            raise StageUnavailableError("the item was not scored in time") from None
        if isinstance(scores, StageFailure):
            _refuse(scores, other_release=other_release)
        return Explanation(
            retrieval=self._retrieval(request, row, gathered, float(scores.candidate_logits[0])),
            ranking=self._ranking(row, gathered, ranked, float(scores.ranking_scores[0])),
            contributions=_contributions(request, scores),
            timing=Timing(
                users=None if asked.stored is None else asked.stored.microseconds,
                retrieve=gathered.microseconds,
                retrieve_compute=gathered.compute_microseconds,
                sources=gathered.sources_microseconds,
                rank=ranked.microseconds,
                rank_compute=ranked.compute_microseconds,
                explain=scores.microseconds,
            ),
        )

    async def close(self) -> None:
        """Wait for batches in flight."""
        await self._leave_one_out.close()

    def _retrieval(self, request: ExplainRequest, row: int, gathered: Gathered, logit: float) -> RetrievalExplanation:
        rows = gathered.proposed[0].rows if gathered.proposed else gathered.rows
        found = np.flatnonzero(rows == row)
        score = float(self._catalogue.popularity[row]) if gathered.source is CandidateSource.POPULAR else logit
        # Candidates of other sources have no score of this kind.
        cut_score = float(np.nanmin(gathered.scores)) if len(rows) else None
        unmet_conditions = self._catalogue.filters.unmet_conditions(request.recommendation.restriction.filter, row)
        reasons: Sequence[AbsenceReason] = ()
        if not len(found):
            reasons = _reasons(request, row, filtered=bool(unmet_conditions)) or [_missing(score, cut_score)]
        return RetrievalExplanation(
            place=int(found[0]) + 1 if len(found) else None,
            reasons=reasons,
            unmet_conditions=unmet_conditions,
            score=score,
            cut_score=cut_score,
            score_type=ladder.unranked_score_type(gathered.source),
            source=gathered.source,
            retrieved_count=len(rows),
            further=[
                (proposed.source, int(proposed.places[position]))
                for proposed in gathered.proposed[1:]
                for position in np.flatnonzero(proposed.rows == row)[:1]
            ],
        )

    def _ranking(self, row: int, gathered: Gathered, ranked: Ranked, score: float) -> RankingExplanation:
        assert ranked.scores is not None  # noqa: S101 - there is no failure
        order = best(ranked.scores, len(ranked.scores))
        found = np.flatnonzero(gathered.rows[order] == row)
        if len(found):
            place, score = int(found[0]) + 1, float(ranked.scores[order[found[0]]])
        else:
            place = int((ranked.scores >= score).sum()) + 1
        return RankingExplanation(
            score=score,
            score_type=self._catalogue.ranking_score_type,
            place=place,
            ranked_count=len(ranked.scores),
        )


def _reasons(request: ExplainRequest, row: int, *, filtered: bool) -> list[AbsenceReason]:
    """Why the item could not be a candidate, however much it scores."""
    allowed = request.recommendation.restriction.allowed
    holds = {
        AbsenceReason.EXCLUDED: request.excluded,
        AbsenceReason.WATCHED: request.watched,
        AbsenceReason.DISMISSED: request.dismissed,
        AbsenceReason.NOT_ALLOWED: allowed is not None and row not in allowed,
        AbsenceReason.FILTERED: filtered,
    }
    return [reason for reason, does in holds.items() if does]


def _missing(score: float, cut_score: float | None) -> AbsenceReason:
    """Why an item that could be a candidate is none."""
    if cut_score is not None and score > cut_score + LOGIT_TOLERANCE * max(1.0, abs(cut_score)):
        return AbsenceReason.MISSED
    return AbsenceReason.BELOW_CUT


def _contributions(request: ExplainRequest, scores: ItemScores) -> list[WatchContribution]:
    logits = (scores.candidate_logits[0] - scores.candidate_logits[1:]).tolist()
    rankings = (scores.ranking_scores[0] - scores.ranking_scores[1:]).tolist()
    rows = request.recommendation.history.rows
    first = len(rows) - len(logits)
    return [
        WatchContribution(position=position, row=row, candidate_logit=logit, ranking_score=ranking)
        for position, row, logit, ranking in zip(
            request.positions[first:], rows[first:].tolist(), logits, rankings, strict=True
        )
    ]


def _refuse(failure: StageFailure, *, other_release: bool) -> NoReturn:
    if failure.release_missing and other_release:
        raise failure
    raise StageUnavailableError(failure.reason) from failure
