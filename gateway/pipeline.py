"""The path of one request: retrieve -> rank -> select."""

import asyncio
import time
from dataclasses import dataclass, field, replace

import grpc
import numpy as np
from numpy.typing import NDArray

from gateway.calls import StageFailure
from gateway.catalogue import Catalogue
from gateway.requests import Query, RankQuery
from gateway.settings import GatewaySettings
from gateway.stages import Candidates, CandidateStage, RankingQuery, RankingStage, RetrievalQuery, Scores
from winnow.history import Rows, WatchHistories
from winnow.serving.errors import DeadlineError, OverloadedError, UnavailableError
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
    SCORE_ORIGIN_RANKING,
    CandidateOrigin,
    DegradationStep,
    ScoreOrigin,
)

# Queues may take this part of the time left. At the whole of it everybody would be served just too late: waits are
# estimates, and work that expires in a queue has kept other work from being done.
ADMITTED_WAIT_SHARE = 0.5


@dataclass(kw_only=True)
class Timing:
    """Where the time of one request went, in microseconds."""

    candidate: int = 0
    candidate_compute: int = 0
    ranking: int = 0
    ranking_compute: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
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
    degradation: DegradationStep.ValueType = DEGRADATION_STEP_UNSPECIFIED
    degradation_reason: str = ""
    timing: Timing = field(default_factory=Timing)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Retrieved:
    candidates: Candidates
    origin: CandidateOrigin.ValueType
    failure: StageFailure | None = None


class RankingPace:
    """How long ranking takes of late, to judge how many candidates the time left allows."""

    # The newest call weighs this much: a change of load shows within a few calls.
    WEIGHT = 0.2
    # Ranking gets no more than this part of the time left by its usual pace: half of all calls are slower than usual.
    CAUTION = 0.5

    def __init__(self) -> None:
        self._seconds = 0.0
        self._candidates = 0.0

    def ranked(self, candidate_count: int, seconds: float) -> None:
        """Learn from one call."""
        self._seconds += self.WEIGHT * (seconds - self._seconds)
        self._candidates += self.WEIGHT * (candidate_count - self._candidates)

    def affordable(self, candidate_count: int, remaining_seconds: float) -> int:
        """Return how many of so many candidates the time left allows."""
        if not self._seconds or self._seconds <= self.CAUTION * remaining_seconds:
            return candidate_count
        return max(0, int(self._candidates * self.CAUTION * remaining_seconds / self._seconds))


class Pipeline:
    """Answers queries from one release. Deadlines are event-loop times."""

    def __init__(
        self,
        catalogue: Catalogue,
        candidate_stage: CandidateStage,
        ranking_stage: RankingStage,
        settings: GatewaySettings,
    ) -> None:
        self._catalogue = catalogue
        self._candidate_stage = candidate_stage
        self._ranking_stage = ranking_stage
        self._settings = settings
        self._pace = RankingPace()

    async def recommend(self, query: Query, deadline: float, *, another_release: bool = False) -> Recommendation:
        """Retrieve, rank, select.

        Falls back step by step where a stage gives no answer, and says so. Raises UnavailableError where the caller
        refuses that, OverloadedError where too much work is waiting, and StageFailure where a replica does not hold the
        release and there is `another_release` to answer from.
        """
        timing = Timing()
        deadline = self._before_reserve(deadline)
        self._admit(deadline)
        candidate_count = max(query.count, self._settings.candidate_count)
        retrieved = await self._retrieve(query, candidate_count, deadline, timing)
        if retrieved.failure is not None:
            _raise_if_not_to_be_degraded(query, retrieved.failure, another_release)
        chosen = self._affordable(retrieved, query.count, deadline)
        try:
            scores = await self._rank(query.history, chosen.candidates.rows, deadline, timing)
        except StageFailure as failure:
            _raise_if_not_to_be_degraded(query, failure, another_release)
            return _unranked(query, retrieved, failure, timing)
        return _ranked(query, chosen, len(retrieved.candidates.rows), scores, timing)

    async def retrieve(self, query: Query, deadline: float, *, another_release: bool = False) -> Recommendation:
        """Retrieve only. Raises UnavailableError where the candidate stage gives no answer; else as `recommend`."""
        timing = Timing()
        deadline = self._before_reserve(deadline)
        retrieved = await self._retrieve(query, query.count, deadline, timing)
        if retrieved.failure is not None:
            if retrieved.failure.release_missing and another_release:
                raise retrieved.failure
            raise UnavailableError(retrieved.failure.reason) from retrieved.failure
        return _unranked(query, retrieved, None, timing)

    async def rank(self, query: RankQuery, deadline: float, *, another_release: bool = False) -> Recommendation:
        """Score the caller's items. Raises UnavailableError where the ranking stage gives none; else as `recommend`."""
        timing = Timing()
        deadline = self._before_reserve(deadline)
        try:
            scores = await self._rank(query.history, query.rows, deadline, timing)
        except StageFailure as failure:
            if failure.release_missing and another_release:
                raise
            raise UnavailableError(failure.reason) from failure
        order = _descending(scores)
        return Recommendation(
            rows=query.rows[order],
            scores=scores[order],
            score_origin=SCORE_ORIGIN_RANKING,
            candidate_origin=CANDIDATE_ORIGIN_CALLER,
            candidate_count=len(query.rows),
            retrieved_count=0,
            timing=timing,
        )

    def _admit(self, deadline: float) -> None:
        """Raise OverloadedError at once where the queues of both stages leave too little time.

        Asked before anything is computed: what is rejected after retrieval has cost a retrieval.
        """
        wait_seconds = self._candidate_stage.expected_wait_seconds() + self._ranking_stage.expected_wait_seconds()
        if wait_seconds > ADMITTED_WAIT_SHARE * (deadline - asyncio.get_running_loop().time()):
            raise OverloadedError("too much work is waiting", retry_after_seconds=wait_seconds)

    def _before_reserve(self, deadline: float) -> float:
        """When the stages have to be done, so that there is time for the answer, degraded or not."""
        remaining = deadline - asyncio.get_running_loop().time()
        return deadline - max(self._settings.reserve_seconds, self._settings.reserve_share * remaining)

    async def _retrieve(self, query: Query, count: int, deadline: float, timing: Timing) -> _Retrieved:
        """Ask the candidate stage; popular items where the history says nothing, or where the stage gives no answer."""
        if not len(query.history.rows):
            # The user vector of an empty history is zero: every item would score the same.
            return self._popular(query, count, None)
        started = time.perf_counter_ns()
        now = asyncio.get_running_loop().time()
        share = self._settings.candidate_timeout_share * (deadline - now)
        try:
            candidates = await self._candidate_stage.ask(
                RetrievalQuery(query.history, count, query.excluded), now + share
            )
        except StageFailure as failure:
            return self._popular(query, count, failure)
        except DeadlineError:
            return self._popular(query, count, StageFailure("candidate", grpc.StatusCode.DEADLINE_EXCEEDED))
        finally:
            timing.candidate = (time.perf_counter_ns() - started) // 1000
        timing.candidate_compute = candidates.compute_microseconds
        return _Retrieved(candidates=candidates, origin=CANDIDATE_ORIGIN_NETWORK)

    def _popular(self, query: Query, count: int, failure: StageFailure | None) -> _Retrieved:
        rows = self._catalogue.popular(count, query.excluded)
        return _Retrieved(
            candidates=Candidates(rows, self._catalogue.popularity[rows], 0),
            origin=CANDIDATE_ORIGIN_POPULAR,
            failure=failure,
        )

    def _affordable(self, retrieved: _Retrieved, count: int, deadline: float) -> _Retrieved:
        """Keep as many of the best candidates as can be ranked in the time left, and never fewer than asked for."""
        candidates = retrieved.candidates
        remaining = deadline - asyncio.get_running_loop().time()
        affordable = self._pace.affordable(len(candidates.rows), remaining)
        kept = max(count, affordable)
        if kept >= len(candidates.rows):
            return retrieved
        cut = Candidates(candidates.rows[:kept], candidates.scores[:kept], candidates.compute_microseconds)
        return replace(retrieved, candidates=cut)

    async def _rank(self, history: WatchHistories, rows: Rows, deadline: float, timing: Timing) -> NDArray[np.float32]:
        if not len(rows):
            return np.empty(0, dtype=np.float32)
        started = time.perf_counter_ns()
        try:
            answer: Scores = await self._ranking_stage.ask(RankingQuery(history, rows), deadline)
        except DeadlineError as error:
            raise StageFailure("ranking", grpc.StatusCode.DEADLINE_EXCEEDED) from error
        finally:
            timing.ranking = (time.perf_counter_ns() - started) // 1000
        timing.ranking_compute = answer.compute_microseconds
        self._pace.ranked(len(rows), timing.ranking / 1e6)
        return answer.scores


def _raise_if_not_to_be_degraded(query: Query, failure: StageFailure, another_release: bool) -> None:
    if failure.release_missing and another_release:
        raise failure
    if query.require_ranked:
        raise UnavailableError(f"the full chain gave no answer ({failure.reason})") from failure


def _ranked(
    query: Query, retrieved: _Retrieved, retrieved_count: int, scores: NDArray[np.float32], timing: Timing
) -> Recommendation:
    best = _descending(scores)[: query.count]
    step = DEGRADATION_STEP_UNSPECIFIED
    if retrieved.failure is not None:
        step = DEGRADATION_STEP_POPULAR_RANKED
    return Recommendation(
        rows=retrieved.candidates.rows[best],
        scores=scores[best],
        score_origin=SCORE_ORIGIN_RANKING,
        candidate_origin=retrieved.origin,
        candidate_count=len(scores),
        retrieved_count=retrieved_count,
        degradation=step,
        degradation_reason=retrieved.failure.reason if retrieved.failure else "",
        timing=timing,
    )


def _unranked(
    query: Query, retrieved: _Retrieved, ranking_failure: StageFailure | None, timing: Timing
) -> Recommendation:
    """Keep the candidates' own order: by logit, or by popularity."""
    popular = retrieved.origin == CANDIDATE_ORIGIN_POPULAR
    step = DEGRADATION_STEP_UNSPECIFIED
    if ranking_failure is not None:
        step = DEGRADATION_STEP_POPULAR if popular else DEGRADATION_STEP_CANDIDATE_ORDER
    return Recommendation(
        rows=retrieved.candidates.rows[: query.count],
        scores=retrieved.candidates.scores[: query.count],
        score_origin=SCORE_ORIGIN_POPULARITY if popular else SCORE_ORIGIN_CANDIDATE,
        candidate_origin=retrieved.origin,
        candidate_count=0,
        retrieved_count=len(retrieved.candidates.rows),
        degradation=step,
        degradation_reason=", ".join(
            failure.reason for failure in (retrieved.failure, ranking_failure) if failure is not None
        ),
        timing=timing,
    )


def _descending(scores: NDArray[np.float32]) -> NDArray[np.intp]:
    """Positions by descending score; equal scores stay in candidate order."""
    return np.argsort(-scores, kind="stable")
