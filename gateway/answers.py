"""What is answered: the best of what came back from the stages, and how far it falls short of the full chain."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.chain import Passage, Timing
from winnow.history import Rows
from winnow.v1.recommendation_pb2 import (
    CANDIDATE_ORIGIN_CALLER,
    CANDIDATE_ORIGIN_NETWORK,
    CANDIDATE_ORIGIN_POPULAR,
    DEGRADATION_STEP_CANDIDATE_ORDER,
    DEGRADATION_STEP_POPULAR,
    DEGRADATION_STEP_POPULAR_RANKED,
    DEGRADATION_STEP_UNSPECIFIED,
    SCORE_ORIGIN_CANDIDATE,
    SCORE_ORIGIN_POPULARITY,
    CandidateOrigin,
    DegradationStep,
    ScoreOrigin,
)


@dataclass(slots=True, kw_only=True, eq=False)
class Recommendation:
    """An answer in rows: best first, no duplicates, none of them excluded."""

    rows: Rows
    scores: NDArray[np.float32]
    score_origin: ScoreOrigin.ValueType
    candidate_origin: CandidateOrigin.ValueType
    candidate_count: int
    """How many candidates were ranked."""
    retrieved_count: int
    """How many were retrieved; more than were ranked where little time was left."""
    timing: Timing
    degradation: DegradationStep.ValueType = DEGRADATION_STEP_UNSPECIFIED
    degradation_reason: str = ""


def recommendation(passage: Passage, ranking_origin: ScoreOrigin.ValueType) -> Recommendation:
    """The best of the ranked candidates; without scores, of the candidates in their own order.

    `ranking_origin` says what the ranking network's scores are.
    """
    failures = [failure for failure in (passage.candidate_failure, passage.ranking_failure) if failure is not None]
    reason = ", ".join(failure.reason for failure in failures)
    if passage.scores is None:
        step = DEGRADATION_STEP_POPULAR if passage.popular else DEGRADATION_STEP_CANDIDATE_ORDER
        return _in_candidate_order(passage, step, reason)
    candidates = passage.retrieved()
    best = _best(passage.scores, passage.query.count)
    return Recommendation(
        rows=candidates.rows[best],
        scores=passage.scores[best],
        score_origin=ranking_origin,
        candidate_origin=_origin(passage),
        candidate_count=len(passage.scores),
        retrieved_count=len(candidates.rows),
        timing=passage.timing,
        degradation=DEGRADATION_STEP_POPULAR_RANKED if failures else DEGRADATION_STEP_UNSPECIFIED,
        degradation_reason=reason,
    )


def retrieval(passage: Passage) -> Recommendation:
    """Candidates in their own order, for callers who asked for no more."""
    return _in_candidate_order(passage, DEGRADATION_STEP_UNSPECIFIED, "")


def ranking(
    rows: Rows, scores: NDArray[np.float32], ranking_origin: ScoreOrigin.ValueType, timing: Timing
) -> Recommendation:
    """The caller's items by their scores."""
    order = _best(scores, len(scores))
    return Recommendation(
        rows=rows[order],
        scores=scores[order],
        score_origin=ranking_origin,
        candidate_origin=CANDIDATE_ORIGIN_CALLER,
        candidate_count=len(rows),
        retrieved_count=0,
        timing=timing,
    )


def _in_candidate_order(passage: Passage, step: DegradationStep.ValueType, reason: str) -> Recommendation:
    """By logit, or by popularity."""
    candidates = passage.retrieved()
    return Recommendation(
        rows=candidates.rows[: passage.query.count],
        scores=candidates.scores[: passage.query.count],
        score_origin=SCORE_ORIGIN_POPULARITY if passage.popular else SCORE_ORIGIN_CANDIDATE,
        candidate_origin=_origin(passage),
        candidate_count=0,
        retrieved_count=len(candidates.rows),
        timing=passage.timing,
        degradation=step,
        degradation_reason=reason,
    )


def _origin(passage: Passage) -> CandidateOrigin.ValueType:
    return CANDIDATE_ORIGIN_POPULAR if passage.popular else CANDIDATE_ORIGIN_NETWORK


def _best(scores: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Positions of the highest scores, descending; equal scores stay in candidate order."""
    negative = -scores
    order = np.argsort(negative)
    # Sorted without regard to the order of equal ones in half the time; there nearly never are any among the best.
    head = negative[order[: count + 1]]
    if (head[1:] == head[:-1]).any():
        order = np.argsort(negative, kind="stable")
    return order[:count]
