"""The path of one request: retrieve -> rank -> select."""

import asyncio
import time
from typing import TypeVar

import numpy as np

from gateway import answers
from gateway.answers import Recommendation
from gateway.calls import StageFailure
from gateway.chain import Chain, Passage, Timing
from gateway.requests import Query, RankQuery
from gateway.settings import GatewaySettings
from gateway.stages import CandidateStage, PinnedStage, RankingQuery, RankingStage, RetrievalQuery
from winnow.serving.errors import DeadlineError, OverloadedError, UnavailableError
from winnow.v1.recommendation_pb2 import ScoreOrigin

Question = TypeVar("Question")
Answer = TypeVar("Answer")

# Queues may take this part of the time left. At the whole of it everybody would be served just too late: waits are
# estimates, and work that expires in a queue has kept other work from being done.
ADMITTED_WAIT_SHARE = 0.5


class Pipeline:
    """Answers queries from one release. Deadlines are event-loop times."""

    def __init__(
        self,
        chain: Chain,
        candidate_stage: CandidateStage,
        ranking_stage: RankingStage,
        settings: GatewaySettings,
        ranking_origin: ScoreOrigin.ValueType,
    ) -> None:
        """`ranking_origin` says what the scores of the release's ranking network are."""
        self._chain = chain
        self._ranking_origin = ranking_origin
        self._candidate_stage = candidate_stage
        self._ranking_stage = ranking_stage
        self._settings = settings

    async def recommend(self, query: Query, deadline: float, *, another_release: bool = False) -> Recommendation:
        """Retrieve, rank, select.

        Falls back step by step where a stage gives no answer, and says so. Raises UnavailableError where the caller
        refuses that, OverloadedError where too much work is waiting, and StageFailure where a replica does not hold the
        release and there is `another_release` to answer from.
        """
        deadline = self._before_reserve(deadline)
        self._admit(deadline)
        passage = Passage(query=query, candidate_count=max(query.count, self._settings.candidate_count))
        await self._chain.take(passage, deadline)
        for failure in (passage.candidate_failure, passage.ranking_failure):
            if failure is None:
                continue
            if failure.release_missing and another_release:
                raise failure
            if query.require_ranked:
                raise UnavailableError(f"the full chain gave no answer ({failure.reason})") from failure
        return answers.recommendation(passage, self._ranking_origin)

    async def retrieve(self, query: Query, deadline: float, *, another_release: bool = False) -> Recommendation:
        """Retrieve only. Raises UnavailableError where the candidate stage gives no answer; else as `recommend`."""
        passage = Passage(query=query, candidate_count=query.count)
        if len(query.history.rows):
            question = RetrievalQuery(query.history, query.count, query.excluded)
            passage.candidates = await self._ask(self._candidate_stage, question, deadline, another_release)
            passage.timing.candidate = passage.elapsed_microseconds()
            passage.timing.candidate_compute = passage.candidates.compute_microseconds
        else:
            self._chain.use_popular(passage, None)
        return answers.retrieval(passage)

    async def rank(self, query: RankQuery, deadline: float, *, another_release: bool = False) -> Recommendation:
        """Score the caller's items. Raises UnavailableError where the ranking stage gives none; else as `recommend`."""
        if not len(query.rows):
            return answers.ranking(query.rows, np.empty(0, dtype=np.float32), self._ranking_origin, Timing())
        started = time.perf_counter_ns()
        question = RankingQuery(query.history, query.rows, query.context)
        answer = await self._ask(self._ranking_stage, question, deadline, another_release)
        microseconds = (time.perf_counter_ns() - started) // 1000
        timing = Timing(ranking=microseconds, ranking_compute=answer.compute_microseconds)
        return answers.ranking(query.rows, answer.scores, self._ranking_origin, timing)

    async def _ask(
        self, stage: PinnedStage[Question, Answer], question: Question, deadline: float, another_release: bool
    ) -> Answer:
        try:
            return await stage.ask(question, self._before_reserve(deadline))
        except StageFailure as failure:
            if failure.release_missing and another_release:
                raise
            raise UnavailableError(failure.reason) from failure
        except DeadlineError as error:
            raise UnavailableError(f"{stage.name}: DEADLINE_EXCEEDED") from error

    def _admit(self, deadline: float) -> None:
        """Raise OverloadedError at once where what waits leaves too little time.

        Asked before anything is computed: what is rejected after retrieval has cost a retrieval.
        """
        wait_seconds = self._chain.expected_wait_seconds()
        if wait_seconds > ADMITTED_WAIT_SHARE * (deadline - asyncio.get_running_loop().time()):
            raise OverloadedError("too much work is waiting", retry_after_seconds=wait_seconds)

    def _before_reserve(self, deadline: float) -> float:
        """When the stages have to be done, so that there is time for the answer, degraded or not."""
        remaining = deadline - asyncio.get_running_loop().time()
        return deadline - max(self._settings.reserve_seconds, self._settings.reserve_share * remaining)
