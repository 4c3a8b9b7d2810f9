"""Clients of the two stages for one release: many queries a call, and every answer is checked before it is used."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from gateway.stage_calls import StageCaller
from winnow.history import RaggedRows
from winnow.queries import Candidates, RankingQuery, RetrievalQuery
from winnow.serving import wire
from winnow.v1 import candidate_pb2, ranking_pb2

Response = TypeVar("Response", candidate_pb2.RetrieveCandidatesResponse, ranking_pb2.RankCandidatesResponse)


class RetrievedAnswer(NamedTuple):
    """The candidates of each query, and how long the stage computed the batch that held them."""

    candidates: Candidates
    compute_microseconds: int


class RankedAnswer(NamedTuple):
    """The score of each candidate of the query, and how long the stage computed the batch that held them."""

    scores: NDArray[np.float32]
    compute_microseconds: int


class CandidateStageClient:
    """History -> the best candidates."""

    def __init__(self, caller: StageCaller, release_id: str, item_count: int) -> None:
        self.caller = caller
        """Makes the calls: replaced when the role of the release changes."""
        self._release_id = release_id
        self._item_count = item_count

    async def retrieve(
        self, query: RetrievalQuery, deadline: float, check: Callable[[RaggedRows], None] = lambda _found: None
    ) -> RetrievedAnswer:
        """Return the candidates of every query of the batch. Raises StageFailure where there is no usable answer.

        `check` raises ValueError where candidates are not permitted.
        """

        def read(data: bytes) -> RetrievedAnswer:
            response = _parse(candidate_pb2.RetrieveCandidatesResponse, data)
            candidates = wire.unpack_candidates(response)
            candidates.rows.check_rows(self._item_count, "candidates")
            _check_lists(query, candidates.rows, self._item_count)
            check(candidates.rows)
            return RetrievedAnswer(candidates, response.compute_microseconds)

        request = wire.pack_retrieval_query(query, self._release_id)
        return await self.caller.call(request.SerializeToString(), read, deadline)

    def empty_request(self) -> bytes:
        """Return a request that is pinned to the release and asks nothing."""
        return candidate_pb2.RetrieveCandidatesRequest(release_id=self._release_id).SerializeToString()


class RankingStageClient:
    """History and candidates -> scores."""

    def __init__(self, caller: StageCaller, release_id: str) -> None:
        self.caller = caller
        """Makes the calls: replaced when the role of the release changes."""
        self._release_id = release_id

    async def rank(self, query: RankingQuery, deadline: float) -> RankedAnswer:
        """Return the score of every candidate of the batch. Raises StageFailure where there is no usable answer."""

        def read(data: bytes) -> RankedAnswer:
            response = _parse(ranking_pb2.RankCandidatesResponse, data)
            return RankedAnswer(wire.unpack_scores(response, query), response.compute_microseconds)

        request = wire.pack_ranking_query(query, self._release_id)
        return await self.caller.call(request.SerializeToString(), read, deadline)

    def empty_request(self) -> bytes:
        """Return a request that is pinned to the release and asks nothing."""
        return ranking_pb2.RankCandidatesRequest(release_id=self._release_id).SerializeToString()


def _parse(kind: type[Response], data: bytes) -> Response:
    """Raise ValueError where the data is no such message."""
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise ValueError(str(error)) from error


def _check_lists(query: RetrievalQuery, found: RaggedRows, item_count: int) -> None:
    """Raise ValueError unless no list is longer than asked, repeats a row, or holds an excluded one."""
    if len(found) != len(query):
        raise ValueError(f"{len(found)} answers to {len(query)} queries")
    too_long = np.flatnonzero(found.lengths > query.counts)
    if len(too_long):
        first = int(too_long[0])
        raise ValueError(f"{found.lengths[first]} candidates where {query.counts[first]} were asked for")
    # A query, a row and whether it is a candidate as one number: one sort of the whole batch brings equal rows
    # together, the excluded ones first, and no candidate may follow its like.
    keys = np.concatenate([2 * _keys(query.exclusions, item_count), 2 * _keys(found, item_count) + 1])
    keys.sort()
    rows, is_candidate = keys >> 1, keys & 1
    if (is_candidate[1:] & (rows[1:] == rows[:-1])).any():
        repeated = len(np.unique(rows[is_candidate == 1])) < len(found.rows)
        raise ValueError("a candidate is repeated" if repeated else "an excluded item is among the candidates")


def _keys(lists: RaggedRows, item_count: int) -> NDArray[np.integer]:
    firsts = np.arange(len(lists)) * item_count
    if 2 * len(lists) * item_count < np.iinfo(np.int32).max:
        # Half as wide numbers are sorted in half the time.
        firsts = firsts.astype(np.int32)
    keys: NDArray[np.integer] = np.repeat(firsts, lists.lengths) + lists.rows
    return keys
