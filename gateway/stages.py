"""The two stages for one release: concurrent requests share a call, and every answer is checked before it is used."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from gateway.calls import StageCaller
from gateway.settings import GatewaySettings
from winnow import queries as wire_queries
from winnow.contexts import RequestContexts
from winnow.history import RaggedRows, Rows, WatchHistories
from winnow.serving.batching import BatchingLimits, MicroBatcher
from winnow.serving.metrics import Metrics
from winnow.serving.wire import pack_ranking_query, pack_retrieval_query, unpack_candidates, unpack_scores
from winnow.v1 import candidate_pb2, ranking_pb2

Query = TypeVar("Query")
Answer = TypeVar("Answer")


@dataclass(slots=True, eq=False)
class RetrievalQuery:
    """One request's question to the candidate stage; one history."""

    history: WatchHistories
    count: int
    excluded: Rows


@dataclass(slots=True, eq=False)
class RankingQuery:
    """One request's question to the ranking stage; one history."""

    history: WatchHistories
    candidates: Rows
    context: RequestContexts | None = None


class Candidates(NamedTuple):
    """Rows, best first, with their logits; and how long the stage computed the batch that held the query."""

    rows: Rows
    scores: NDArray[np.float32]
    compute_microseconds: int


class Scores(NamedTuple):
    """A score for each candidate; and how long the stage computed the batch that held the query."""

    scores: NDArray[np.float32]
    compute_microseconds: int


def batching_limits(settings: GatewaySettings) -> BatchingLimits:
    """The bounds of every batcher of the gateway."""
    return BatchingLimits(
        max_batch_weight=settings.max_batch_queries,
        max_batches_in_flight=settings.max_batches_in_flight,
        max_queued_weight=settings.max_queued_queries,
    )


class PinnedStage(ABC, Generic[Query, Answer]):
    """A stage as it answers from one release."""

    def __init__(self, caller: StageCaller, release_id: str, settings: GatewaySettings, metrics: Metrics) -> None:
        self.name = caller.stage
        self._caller = caller
        self._release_id = release_id
        limits = batching_limits(settings)
        self._batcher: MicroBatcher[Query, Answer] = MicroBatcher(self.ask_all, limits, metrics.queue(caller.stage))

    async def ask(self, query: Query, deadline: float) -> Answer:
        """Return the answer to one query, sharing a call. Raises StageFailure, or what MicroBatcher.submit raises."""
        return await self._batcher.submit(query, deadline=deadline)

    async def held_by_all(self) -> bool:
        """Whether every replica of the stage holds the release."""
        return await self._caller.held_by_all(self._empty_request())

    async def say_in_use(self) -> None:
        """Keep the stage from dropping the release in a quiet hour."""
        await self._caller.say_in_use(self._empty_request())

    async def close(self) -> None:
        """Wait for calls under way."""
        await self._batcher.close()

    @abstractmethod
    def _empty_request(self) -> Any:
        """A call that is pinned to the release and asks nothing."""

    @abstractmethod
    async def ask_all(self, queries: Sequence[Query], deadline: float) -> list[Answer]:
        """Return the answers to all of the queries, in order, from one call. Raises StageFailure."""


class CandidateStage(PinnedStage[RetrievalQuery, Candidates]):
    """History -> the best candidates."""

    def __init__(
        self, caller: StageCaller, release_id: str, item_count: int, settings: GatewaySettings, metrics: Metrics
    ) -> None:
        super().__init__(caller, release_id, settings, metrics)
        self._item_count = item_count

    def _empty_request(self) -> candidate_pb2.RetrieveCandidatesRequest:
        return candidate_pb2.RetrieveCandidatesRequest(release_id=self._release_id)

    async def ask_all(self, queries: Sequence[RetrievalQuery], deadline: float) -> list[Candidates]:
        """See PinnedStage.ask_all."""
        query = wire_queries.RetrievalQuery(
            histories=WatchHistories.concatenate([query.history for query in queries]),
            counts=np.array([query.count for query in queries], dtype=np.int32),
            exclusions=RaggedRows.from_lists([query.excluded for query in queries]),
        )
        request = pack_retrieval_query(query, self._release_id)
        response: candidate_pb2.RetrieveCandidatesResponse = await self._caller.call(request, deadline)
        try:
            found, scores = unpack_candidates(response)
            found.check_rows(self._item_count, "candidates")
            _check_candidates(queries, found, self._item_count)
        except ValueError as error:
            raise self._caller.unusable(str(error)) from error
        return [
            Candidates(found.rows[start:end], scores[start:end], response.compute_microseconds)
            for start, end in pairwise(found.offsets.tolist())
        ]


class RankingStage(PinnedStage[RankingQuery, Scores]):
    """History and candidates -> scores."""

    def _empty_request(self) -> ranking_pb2.RankCandidatesRequest:
        return ranking_pb2.RankCandidatesRequest(release_id=self._release_id)

    async def ask_all(self, queries: Sequence[RankingQuery], deadline: float) -> list[Scores]:
        """See PinnedStage.ask_all."""
        candidates = RaggedRows.from_lists([query.candidates for query in queries])
        # All queries are for one release, whose network reads contexts or does not.
        known = [query.context for query in queries if query.context is not None]
        query = wire_queries.RankingQuery(
            histories=WatchHistories.concatenate([query.history for query in queries]),
            candidates=candidates,
            contexts=RequestContexts.concatenate(known) if known else None,
        )
        request = pack_ranking_query(query, self._release_id)
        response: ranking_pb2.RankCandidatesResponse = await self._caller.call(request, deadline)
        try:
            scores = unpack_scores(response, query)
        except ValueError as error:
            raise self._caller.unusable(str(error)) from error
        ends = candidates.offsets.tolist()
        return [Scores(scores[start:end], response.compute_microseconds) for start, end in pairwise(ends)]


def _check_candidates(queries: Sequence[RetrievalQuery], found: RaggedRows, item_count: int) -> None:
    """Raise ValueError unless each list is as short as asked, without duplicates and without what is excluded."""
    if len(found) != len(queries):
        raise ValueError(f"{len(found)} answers to {len(queries)} queries")
    lengths = found.lengths
    for query, length in zip(queries, lengths.tolist(), strict=True):
        if length > query.count:
            raise ValueError(f"{length} candidates where {query.count} were asked for")
    # A query, a row and whether it is a candidate as one number: one sort of the whole batch brings equal rows
    # together, the excluded ones first, and no candidate may follow its like.
    excluded = RaggedRows.from_lists([query.excluded for query in queries])
    keys = np.concatenate([2 * _keys(excluded, item_count), 2 * _keys(found, item_count) + 1])
    keys.sort()
    rows, is_candidate = keys >> 1, keys & 1
    if (is_candidate[1:] & (rows[1:] == rows[:-1])).any():
        twice = len(np.unique(rows[is_candidate == 1])) < len(found.rows)
        raise ValueError("a candidate stands twice" if twice else "an excluded item is among the candidates")


def _keys(lists: RaggedRows, item_count: int) -> NDArray[np.integer]:
    firsts = np.arange(len(lists)) * item_count
    if 2 * len(lists) * item_count < np.iinfo(np.int32).max:
        # Half as wide numbers are sorted in half the time.
        firsts = firsts.astype(np.int32)
    keys: NDArray[np.integer] = np.repeat(firsts, lists.lengths) + lists.rows
    return keys
