"""The scores of one item for a watch history, and for the same history without each of its latest watches.

Both stages are asked at once, many histories a call. These queries have a queue of their own, in which one request
weighs as much as the histories that it asks about: explanations wait for each other, not recommendations for them.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.requests import CandidateRequest
from gateway.settings import GatewaySettings
from gateway.stage_calls import StageFailure
from gateway.stage_clients import CandidateStageClient, RankingStageClient
from gateway.steps import Steps
from winnow.batching import BatchingLimits, IncompleteBatchError, MicroBatcher
from winnow.contexts import RequestContexts
from winnow.history import RaggedRows, Rows, WatchHistories
from winnow.queries import RankingQuery, Restriction, RetrievalQuery
from winnow.serving.metrics import Metrics

# Stages compute these beside the batches of recommendations, which may be several times as many.
MAX_BATCHES_IN_FLIGHT = 2
# Of the watches before those that a network reads: the one that moves up when another is left out, and the one before
# that, which says how long the gap between the two was.
EARLIER_WATCHES = 2
# In all histories of one request together: where networks read the whole of a long history, less is left out.
MAX_WATCHES = 100_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ItemScores:
    """The scores of one item, float32 [1 + n]: for the whole history, then without each of its n latest watches."""

    candidate_logits: NDArray[np.float32]
    ranking_scores: NDArray[np.float32]
    microseconds: int
    """How long the two stages took."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Query:
    row: int
    histories: WatchHistories
    context: RequestContexts | None


class LeaveOneOut:
    """Scores items from one release. Deadlines are event-loop times."""

    def __init__(
        self,
        candidate_stage: CandidateStageClient,
        ranking_stage: RankingStageClient,
        history_length: int | None,
        steps: Steps,
        settings: GatewaySettings,
        metrics: Metrics,
    ) -> None:
        """`history_length` is how many of the latest watches either network reads; None is all of them."""
        self._candidate_stage = candidate_stage
        self._ranking_stage = ranking_stage
        self._history_length = history_length
        self._steps = steps
        self._max_histories = settings.max_batch_queries
        limits = BatchingLimits(
            max_batch_weight=settings.max_batch_queries,
            max_batches_in_flight=MAX_BATCHES_IN_FLIGHT,
            max_queued_weight=settings.max_queued_queries,
        )
        self._batches = MicroBatcher[_Query, ItemScores | StageFailure](self._score, limits, metrics.queue("explain"))

    def expected_seconds(self) -> float:
        """See MicroBatcher.expected_seconds."""
        return self._batches.expected_seconds()

    async def scores(self, request: CandidateRequest, row: int, watch_count: int) -> ItemScores | StageFailure:
        """Return the item's scores without up to `watch_count` watches, or why there are none.

        There are fewer where the history has fewer, where the networks read fewer, where a batch holds fewer histories,
        or where these would have more than MAX_WATCHES. Raises OverloadedError and DeadlineError as MicroBatcher does.
        """
        length = self._history_length
        history = request.history if length is None else request.history.last(length + EARLIER_WATCHES)
        history_count = min(self._max_histories, max(MAX_WATCHES // max(len(history.rows), 1), 1))
        known = min(watch_count, len(history.rows), history_count - 1)
        count = known if length is None else min(known, length)
        histories = without_each(history, count)
        query = _Query(row=row, histories=histories, context=request.context)
        return await self._batches.submit(query, deadline=request.deadline, weight=len(histories))

    async def close(self) -> None:
        """Wait for batches in flight."""
        await self._batches.close()

    async def _score(
        self, queries: Sequence[_Query], deadline: float
    ) -> AsyncIterator[Sequence[ItemScores | StageFailure]]:
        histories = WatchHistories.concatenate([query.histories for query in queries])
        counts = [len(query.histories) for query in queries]
        rows = np.repeat(np.array([query.row for query in queries], dtype=np.int32), counts)
        contexts = [query.context for query in queries for _ in query.histories.lengths if query.context is not None]
        failures: Sequence[BaseException] = ()
        try:
            with self._steps("explain") as clock:
                async with asyncio.TaskGroup() as both:
                    logits = both.create_task(self._candidate_logits(histories, rows, deadline))
                    scores = both.create_task(self._ranking_scores(histories, rows, contexts, deadline))
        except* StageFailure as failed:
            failures = failed.exceptions
        for failure in failures:
            assert isinstance(failure, StageFailure)  # noqa: S101 - nothing else is caught above
            yield [failure] * len(queries)
            raise IncompleteBatchError(failure.reason)
        ends = np.cumsum(counts)[:-1]
        yield [
            ItemScores(candidate_logits=of_logits, ranking_scores=of_scores, microseconds=clock.microseconds)
            for of_logits, of_scores in zip(
                np.split(logits.result(), ends), np.split(scores.result(), ends), strict=True
            )
        ]

    async def _candidate_logits(self, histories: WatchHistories, rows: Rows, deadline: float) -> NDArray[np.float32]:
        """The candidate network's logit of row b for history b."""
        # All logits of an empty history are zero: no layer has a bias.
        logits = np.zeros(len(rows), dtype=np.float32)
        asking = np.flatnonzero(histories.lengths)
        if not len(asking):
            return logits
        wanted = rows[asking]
        of_row = {row: Restriction(allowed=np.array([row], dtype=np.int32)) for row in set(wanted.tolist())}
        query = RetrievalQuery(
            histories=histories.take(histories.offsets[asking], histories.lengths[asking]),
            counts=np.ones(len(asking), dtype=np.int32),
            exclusions=RaggedRows.empty(len(asking)),
            restrictions={position: of_row[row] for position, row in enumerate(wanted.tolist())},
        )

        def check(found: RaggedRows) -> None:
            if not np.array_equal(found.rows, wanted):
                raise ValueError("an item that was asked for by its id is not the candidate")

        (_, scores), _ = await self._candidate_stage.retrieve(query, deadline, check)
        logits[asking] = scores
        return logits

    async def _ranking_scores(
        self, histories: WatchHistories, rows: Rows, contexts: Sequence[RequestContexts], deadline: float
    ) -> NDArray[np.float32]:
        """The ranking network's score of row b for history b."""
        query = RankingQuery(
            histories=histories,
            candidates=RaggedRows(rows, np.arange(len(rows) + 1)),
            # All requests are for one release, whose network reads contexts or does not.
            contexts=RequestContexts.concatenate(contexts) if contexts else None,
        )
        scores, _ = await self._ranking_stage.rank(query, deadline)
        return scores


def without_each(history: WatchHistories, count: int) -> WatchHistories:
    """Return a history, and then the same without each of its `count` latest watches, the oldest of them first."""
    length = len(history.rows)
    kept = np.arange(max(length - 1, 0))
    left_out = np.arange(length - count, length)
    positions = np.concatenate([np.arange(length), (kept + (kept >= left_out[:, None])).ravel()])
    return WatchHistories.from_lengths(
        history.rows[positions],
        np.array([length] + [length - 1] * count),
        history.weights[positions],
        history.timestamps[positions],
    )
