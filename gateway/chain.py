"""Many recommendations on their way through both stages at once: candidates for all of them, then scores for all.

Requests that leave together stay together: one call to each stage, and one wait for each request. Where a stage gives
no answer, the request goes on with what there is, and says which stage failed.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import grpc
import numpy as np
from numpy.typing import NDArray

from gateway.calls import StageFailure
from gateway.catalogue import Catalogue
from gateway.requests import Query
from gateway.settings import GatewaySettings
from gateway.stages import (
    Candidates,
    CandidateStage,
    RankingQuery,
    RankingStage,
    RetrievalQuery,
    batching_limits,
)
from winnow.serving.batching import MicroBatcher
from winnow.serving.errors import DeadlineError
from winnow.serving.metrics import Metrics


@dataclass(slots=True)
class Timing:
    """Where the time of one request went, in microseconds."""

    candidate: int = 0
    candidate_compute: int = 0
    ranking: int = 0
    ranking_compute: int = 0


@dataclass(slots=True, kw_only=True, eq=False)
class Passage:
    """One request on its way through the stages, and what it has got so far."""

    query: Query
    candidate_count: int
    """How many candidates to retrieve."""
    started_nanoseconds: int = field(default_factory=time.perf_counter_ns)
    candidates: Candidates | None = None
    """The stage's, or the most popular items: see `popular`."""
    popular: bool = False
    candidate_failure: StageFailure | None = None
    scores: NDArray[np.float32] | None = None
    """Of the first candidates, as many as were ranked."""
    ranking_failure: StageFailure | None = None
    timing: Timing = field(default_factory=Timing)
    over: bool = False
    """Nobody waits for it any more."""

    def retrieved(self) -> Candidates:
        """The candidates, once there are any."""
        assert self.candidates is not None  # noqa: S101 - Chain.take's promise
        return self.candidates

    def elapsed_microseconds(self) -> int:
        """Since it began."""
        return (time.perf_counter_ns() - self.started_nanoseconds) // 1000


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


class Chain:
    """Takes requests through both stages of one release. Deadlines are event-loop times."""

    def __init__(
        self,
        catalogue: Catalogue,
        candidate_stage: CandidateStage,
        ranking_stage: RankingStage,
        settings: GatewaySettings,
        metrics: Metrics,
    ) -> None:
        self._catalogue = catalogue
        self._candidate_stage = candidate_stage
        self._ranking_stage = ranking_stage
        self._candidate_timeout_share = settings.candidate_timeout_share
        self._pace = RankingPace()
        self._batcher: MicroBatcher[Passage, None] = MicroBatcher(
            self._pass, batching_limits(settings), metrics.queue("chain")
        )

    async def take(self, passage: Passage, deadline: float) -> None:
        """Fill in candidates and scores, or why there are none; candidates there are always.

        Raises OverloadedError and UnavailableError as MicroBatcher.submit does. A request whose deadline passes comes
        back with what it has got until then.
        """
        try:
            await self._batcher.submit(passage, deadline=deadline)
        except DeadlineError:
            # Of this request alone: others in its batch may have more time.
            if passage.candidates is None:
                self.use_popular(passage, StageFailure("candidate", grpc.StatusCode.DEADLINE_EXCEEDED))
            if passage.scores is None:
                passage.ranking_failure = StageFailure("ranking", grpc.StatusCode.DEADLINE_EXCEEDED)
        except StageFailure:
            pass  # noted in the passage
        finally:
            passage.over = True

    def expected_wait_seconds(self) -> float:
        """How long a request that is taken now would wait and be under way, judged by the latest ones."""
        return self._batcher.expected_wait_seconds()

    async def close(self) -> None:
        """Wait for requests under way."""
        await self._batcher.close()

    def use_popular(self, passage: Passage, failure: StageFailure | None) -> None:
        """Let popular items be the candidates."""
        rows = self._catalogue.popular(passage.candidate_count, passage.query.excluded)
        passage.candidates = Candidates(rows, self._catalogue.popularity[rows], 0)
        passage.popular = True
        passage.candidate_failure = failure

    async def _pass(self, passages: Sequence[Passage], deadline: float) -> list[None]:
        """Raises the first StageFailure at the end: how long a failed flight took says nothing about the next."""
        failures = (
            await self._retrieve(passages, deadline),
            await self._rank([passage for passage in passages if not passage.over], deadline),
        )
        for failure in failures:
            if failure is not None:
                raise failure
        return [None] * len(passages)

    async def _retrieve(self, passages: Sequence[Passage], deadline: float) -> StageFailure | None:
        """Ask the candidate stage; popular items where a history says nothing, or where the stage gives no answer."""
        failure = None
        asking = []
        for passage in passages:
            if len(passage.query.history.rows):
                asking.append(passage)
            else:
                # The user vector of an empty history is zero: every item would score the same.
                self.use_popular(passage, None)
        if not asking:
            return None
        now = asyncio.get_running_loop().time()
        queries = [
            RetrievalQuery(passage.query.history, passage.candidate_count, passage.query.excluded) for passage in asking
        ]
        try:
            answers = await self._candidate_stage.ask_all(
                queries, now + self._candidate_timeout_share * (deadline - now)
            )
        except StageFailure as error:
            failure = error
            for passage in asking:
                if not passage.over:
                    self.use_popular(passage, failure)
        else:
            for passage, candidates in zip(asking, answers, strict=True):
                passage.candidates = candidates
                passage.timing.candidate_compute = candidates.compute_microseconds
        for passage in asking:
            passage.timing.candidate = passage.elapsed_microseconds()
        return failure

    async def _rank(self, passages: Sequence[Passage], deadline: float) -> StageFailure | None:
        """Score as many of the best candidates as the time left allows, and never fewer than asked for."""
        started = time.perf_counter_ns()
        remaining = deadline - asyncio.get_running_loop().time()
        asking, queries = [], []
        for passage in passages:
            rows = passage.retrieved().rows
            kept = max(passage.query.count, self._pace.affordable(len(rows), remaining))
            if len(rows):
                asking.append(passage)
                queries.append(RankingQuery(passage.query.history, rows[:kept], passage.query.context))
            else:
                passage.scores = np.empty(0, dtype=np.float32)
        if not asking:
            return None
        try:
            answers = await self._ranking_stage.ask_all(queries, deadline)
        except StageFailure as failure:
            for passage in asking:
                passage.ranking_failure = failure
                passage.timing.ranking = (time.perf_counter_ns() - started) // 1000
            return failure
        microseconds = (time.perf_counter_ns() - started) // 1000
        for passage, query, answer in zip(asking, queries, answers, strict=True):
            passage.scores = answer.scores
            passage.timing.ranking = microseconds
            passage.timing.ranking_compute = answer.compute_microseconds
            self._pace.ranked(len(query.candidates), microseconds / 1e6)
        return None
