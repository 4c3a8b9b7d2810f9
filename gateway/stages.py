"""The two stages as the gateway calls them: many requests share one call, with a deadline and a bounded retry."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, TypeVar

import grpc
import numpy as np
import structlog
from numpy.typing import NDArray

from gateway.settings import GatewaySettings
from winnow.history import RaggedRows, Rows
from winnow.serving.batching import BatchingLimits, MicroBatcher
from winnow.serving.wire import pack_int32, pack_rows, unpack_float32, unpack_rows
from winnow.v1 import candidate_pb2, candidate_pb2_grpc, ranking_pb2, ranking_pb2_grpc

_log = structlog.get_logger(__name__)

Response = TypeVar("Response")

# A retry at once would meet the same restarting replica; this long a pause costs little of a usual deadline.
RETRY_PAUSE_SECONDS = 0.01


class StageFailure(Exception):  # noqa: N818 - it is what the degradation ladder is about, not an error of a request
    """A stage gave no usable answer; `reason` names the stage and the status, and may be shown to callers."""

    def __init__(self, stage: str, code: grpc.StatusCode) -> None:
        super().__init__(f"{stage}: {code.name}")
        self.reason = f"{stage}: {code.name}"
        self.code = code


@dataclass(frozen=True, slots=True, eq=False)
class RetrievalQuery:
    """One request's question to the candidate stage."""

    history: Rows
    count: int
    excluded: Rows


@dataclass(frozen=True, slots=True, eq=False)
class RankingQuery:
    """One request's question to the ranking stage."""

    history: Rows
    candidates: Rows


class Candidates(NamedTuple):
    """Rows, best first, with their logits; and how long the stage computed the batch that held the query."""

    rows: Rows
    scores: NDArray[np.float32]
    compute_microseconds: int


class Scores(NamedTuple):
    """A probability for each candidate; and how long the stage computed the batch that held the query."""

    scores: NDArray[np.float32]
    compute_microseconds: int


class RetryBudget:
    """Allows retries up to a share of all calls, so that a failing stage is not buried under them."""

    # A few retries are always allowed after a quiet time; no more than this many can be saved up.
    MAX_TOKENS = 10.0

    def __init__(self, share: float) -> None:
        self._share = share
        self._tokens = self.MAX_TOKENS

    def on_call(self) -> None:
        """A call earns its share of a retry."""
        self._tokens = min(self._tokens + self._share, self.MAX_TOKENS)

    def take(self) -> bool:
        """Whether one retry may be made now."""
        if not self._share or self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class StageCaller:
    """Makes one stage's calls: a deadline on each, one retry of UNAVAILABLE, failures by name."""

    def __init__(self, stage: str, settings: GatewaySettings) -> None:
        self._stage = stage
        self._budget = RetryBudget(settings.retry_share)

    async def call(self, method: Callable[..., Awaitable[Response]], request: object, deadline: float) -> Response:
        """Return the response. Raises StageFailure where there is none by the deadline (event-loop time)."""
        loop = asyncio.get_running_loop()
        self._budget.on_call()
        retried = False
        while True:
            remaining = deadline - loop.time()
            if remaining <= 0:
                raise StageFailure(self._stage, grpc.StatusCode.DEADLINE_EXCEEDED)
            try:
                return await method(request, timeout=remaining)
            except grpc.aio.AioRpcError as error:
                code = error.code()
                if code is not grpc.StatusCode.UNAVAILABLE or retried or not self._budget.take():
                    _log.warning("stage call failed", stage=self._stage, code=code.name, details=error.details())
                    raise StageFailure(self._stage, code) from error
            retried = True
            await asyncio.sleep(RETRY_PAUSE_SECONDS * (1 + random.random()))  # noqa: S311 - spreads retries, no secret


class CandidateStage:
    """Retrieves candidates for one request, together with the requests that arrive at the same time."""

    def __init__(self, channel: grpc.aio.Channel, release_id: str, settings: GatewaySettings) -> None:
        self._stub = candidate_pb2_grpc.CandidateServiceStub(channel)
        self._release_id = release_id
        self._caller = StageCaller("candidate", settings)
        self._batcher: MicroBatcher[RetrievalQuery, Candidates] = MicroBatcher(self._fly, stage_limits(settings))

    async def retrieve(self, query: RetrievalQuery, deadline: float) -> Candidates:
        """Return the best candidates. Raises StageFailure, or what MicroBatcher.submit raises."""
        return await self._batcher.submit(query, deadline=deadline)

    async def close(self) -> None:
        """Wait for calls under way."""
        await self._batcher.close()

    async def _fly(self, queries: Sequence[RetrievalQuery], deadline: float) -> list[Candidates]:
        request = candidate_pb2.RetrieveCandidatesRequest(
            release_id=self._release_id,
            histories=pack_rows(RaggedRows.from_lists([query.history for query in queries])),
            counts=pack_int32(np.array([query.count for query in queries])),
            exclusions=pack_rows(RaggedRows.from_lists([query.excluded for query in queries])),
        )
        response = await self._caller.call(self._stub.RetrieveCandidates, request, deadline)
        try:
            rows = unpack_rows(response.candidates, "candidates")
            scores = _checked_scores(response.scores, len(rows.rows))
            if len(rows) != len(queries):
                raise ValueError(f"{len(rows)} answers to {len(queries)} queries")
        except ValueError as error:
            _log.error("stage answer is unusable", stage="candidate", reason=str(error))
            raise StageFailure("candidate", grpc.StatusCode.INTERNAL) from error
        ends = rows.offsets.tolist()
        return [
            Candidates(rows.rows[start:end], scores[start:end], response.compute_microseconds)
            for start, end in pairwise(ends)
        ]


class RankingStage:
    """Scores one request's candidates, together with the requests that arrive at the same time."""

    def __init__(self, channel: grpc.aio.Channel, release_id: str, settings: GatewaySettings) -> None:
        self._stub = ranking_pb2_grpc.RankingServiceStub(channel)
        self._release_id = release_id
        self._caller = StageCaller("ranking", settings)
        self._batcher: MicroBatcher[RankingQuery, Scores] = MicroBatcher(self._fly, stage_limits(settings))

    async def rank(self, query: RankingQuery, deadline: float) -> Scores:
        """Return a score for each candidate. Raises StageFailure, or what MicroBatcher.submit raises."""
        return await self._batcher.submit(query, deadline=deadline)

    async def close(self) -> None:
        """Wait for calls under way."""
        await self._batcher.close()

    async def _fly(self, queries: Sequence[RankingQuery], deadline: float) -> list[Scores]:
        candidates = RaggedRows.from_lists([query.candidates for query in queries])
        request = ranking_pb2.RankCandidatesRequest(
            release_id=self._release_id,
            histories=pack_rows(RaggedRows.from_lists([query.history for query in queries])),
            candidates=pack_rows(candidates),
        )
        response = await self._caller.call(self._stub.RankCandidates, request, deadline)
        try:
            scores = _checked_scores(response.scores, len(candidates.rows))
        except ValueError as error:
            _log.error("stage answer is unusable", stage="ranking", reason=str(error))
            raise StageFailure("ranking", grpc.StatusCode.INTERNAL) from error
        ends = candidates.offsets.tolist()
        return [Scores(scores[start:end], response.compute_microseconds) for start, end in pairwise(ends)]


def stage_limits(settings: GatewaySettings) -> BatchingLimits:
    """The bounds of the batcher towards one stage."""
    return BatchingLimits(
        max_batch_weight=settings.max_batch_queries,
        max_flights=settings.max_flights,
        max_queued_weight=settings.max_queued_queries,
    )


def _checked_scores(packed: bytes, row_count: int) -> NDArray[np.float32]:
    scores = unpack_float32(packed, "scores")
    if len(scores) != row_count:
        raise ValueError(f"{len(scores)} scores for {row_count} rows")
    if not np.isfinite(scores).all():
        raise ValueError("a score is not finite")
    return scores
