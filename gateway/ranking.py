"""The ranking step: scores from the ranking service, for as many candidates as the time left allows."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import grpc
import numpy as np
from numpy.typing import NDArray

from gateway.pace import RankingPace
from gateway.requests import CandidateRequest, RankRequest
from gateway.stage_calls import StageFailure
from gateway.stage_clients import RankingStageClient
from gateway.steps import Steps
from winnow.contexts import RequestContexts
from winnow.history import RaggedRows, Rows, WatchHistories
from winnow.queries import RankingQuery


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ranked:
    """The scores of a request's first candidates, as many as were ranked, or why there are none."""

    scores: NDArray[np.float32] | None = None
    failure: StageFailure | None = None
    microseconds: int | None = None
    """How long the ranking stage took to answer; None where it was not asked."""
    compute_microseconds: int | None = None
    """Of these, how long it computed; None where it gave no answer."""


NOT_IN_TIME = Ranked(failure=StageFailure("ranking", grpc.StatusCode.DEADLINE_EXCEEDED))
NOTHING_TO_RANK = Ranked(scores=np.empty(0, dtype=np.float32))


class RankingStep:
    """Asks the ranking stage for many requests in one call. Deadlines are event-loop times."""

    def __init__(self, stage: RankingStageClient, steps: Steps) -> None:
        self._stage = stage
        self._steps = steps
        self._pace = RankingPace()

    def affordable(self, request: CandidateRequest, rows: Rows, deadline: float) -> Rows:
        """Cut candidates to as many of the best as the time left allows, and never below what is asked for."""
        remaining = deadline - asyncio.get_running_loop().time()
        return rows[: max(request.item_count, self._pace.affordable(len(rows), remaining))]

    async def rank(
        self, requests: Sequence[CandidateRequest | RankRequest], rows: Sequence[Rows], deadline: float
    ) -> list[Ranked]:
        """Score the rows of each request. A request without rows, or whose own deadline has passed, costs nothing."""
        now = asyncio.get_running_loop().time()
        ranked = [NOT_IN_TIME if request.deadline <= now else NOTHING_TO_RANK for request in requests]
        asking = [at for at, request in enumerate(requests) if request.deadline > now and len(rows[at])]
        if asking:
            answers = await self._ask([requests[at] for at in asking], [rows[at] for at in asking], deadline)
            for at, answer in zip(asking, answers, strict=True):
                ranked[at] = answer
        return ranked

    async def _ask(
        self, requests: Sequence[CandidateRequest | RankRequest], rows: Sequence[Rows], deadline: float
    ) -> list[Ranked]:
        contexts = [request.context for request in requests if request.context is not None]
        query = RankingQuery(
            histories=WatchHistories.concatenate([request.history for request in requests]),
            candidates=RaggedRows.from_lists(rows),
            # All requests are for one release, whose network reads contexts or does not.
            contexts=RequestContexts.concatenate(contexts) if contexts else None,
        )
        # A request with many candidates of its own is cut to what the others get when time is short.
        mean_count = sum(map(len, rows)) / len(rows)
        try:
            with self._steps("rank") as clock:
                scores, compute_microseconds = await self._stage.rank(query, deadline)
        except StageFailure as failure:
            if failure.code is grpc.StatusCode.DEADLINE_EXCEEDED:
                self._pace.timed_out(mean_count, clock.microseconds / 1e6)
            return [Ranked(failure=failure, microseconds=clock.microseconds)] * len(requests)
        self._pace.ranked(mean_count, clock.microseconds / 1e6)
        return [
            Ranked(
                scores=scores[start:stop],
                microseconds=clock.microseconds,
                compute_microseconds=compute_microseconds,
            )
            for start, stop in pairwise(query.candidates.offsets.tolist())
        ]
