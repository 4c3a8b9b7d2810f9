"""Queries and answers of the stages as messages, in both directions.

Arrays travel as little-endian bytes, one copy away from NumPy. Lengths are checked before anything is built from them:
the unpacking functions raise ValueError, naming the field, for a message whose fields do not fit together. Whether rows
exist and counts are allowed is for the receiver to check.
"""

import numpy as np
from numpy.typing import NDArray

from winnow.contexts import RequestContexts
from winnow.history import UNKNOWN_TIME, RaggedRows, Timestamps, WatchHistories
from winnow.queries import Candidates, RankingQuery, RetrievalQuery
from winnow.v1 import candidate_pb2, packed_pb2, ranking_pb2

INT32 = np.dtype("<i4")
INT64 = np.dtype("<i8")
FLOAT32 = np.dtype("<f4")


def pack_retrieval_query(query: RetrievalQuery, release_id: str) -> candidate_pb2.RetrieveCandidatesRequest:
    """The request that asks the release's candidate network."""
    return candidate_pb2.RetrieveCandidatesRequest(
        release_id=release_id,
        histories=pack_rows(query.histories),
        history_weights=pack_weights(query.histories),
        history_timestamps=pack_timestamps(query.histories),
        counts=pack_int32(query.counts),
        exclusions=pack_rows(query.exclusions),
    )


def unpack_retrieval_query(request: candidate_pb2.RetrieveCandidatesRequest) -> RetrievalQuery:
    """The query in a request."""
    query = RetrievalQuery(
        histories=_unpack_histories(request),
        counts=unpack_int32(request.counts, "counts"),
        exclusions=unpack_rows(request.exclusions, "exclusions"),
    )
    _check_length("counts", len(query.counts), len(query.histories), "histories")
    _check_length("exclusions", len(query.exclusions), len(query.histories), "histories")
    return query


def pack_candidates(candidates: Candidates, compute_microseconds: int) -> candidate_pb2.RetrieveCandidatesResponse:
    """The response that carries the candidates of a query."""
    return candidate_pb2.RetrieveCandidatesResponse(
        candidates=pack_rows(candidates.rows),
        scores=pack_float32(candidates.scores),
        compute_microseconds=compute_microseconds,
    )


def unpack_candidates(response: candidate_pb2.RetrieveCandidatesResponse) -> Candidates:
    """The candidates in a response, with finite scores."""
    rows = unpack_rows(response.candidates, "candidates")
    return Candidates(rows, _unpack_scores(response.scores, len(rows.rows)))


def pack_ranking_query(query: RankingQuery, release_id: str) -> ranking_pb2.RankCandidatesRequest:
    """The request that asks the release's ranking network."""
    request = ranking_pb2.RankCandidatesRequest(
        release_id=release_id,
        histories=pack_rows(query.histories),
        history_weights=pack_weights(query.histories),
        history_timestamps=pack_timestamps(query.histories),
        candidates=pack_rows(query.candidates),
    )
    if query.contexts is not None:
        request.request_times = pack_times(query.contexts)
        request.unclicked.CopyFrom(pack_rows(query.contexts.unclicked))
    return request


def unpack_ranking_query(request: ranking_pb2.RankCandidatesRequest) -> RankingQuery:
    """The query in a request."""
    histories = _unpack_histories(request)
    candidates = unpack_rows(request.candidates, "candidates")
    _check_length("candidates", len(candidates), len(histories), "histories")
    contexts = None
    if request.request_times or request.unclicked.lengths or request.unclicked.rows:
        contexts = RequestContexts(
            _unpack_int64(request.request_times, "request_times"), unpack_rows(request.unclicked, "unclicked")
        )
        _check_length("request_times", len(contexts.times), len(histories), "histories")
        _check_length("unclicked", len(contexts.unclicked), len(histories), "histories")
    return RankingQuery(histories=histories, candidates=candidates, contexts=contexts)


def pack_scores(scores: NDArray[np.float32], compute_microseconds: int) -> ranking_pb2.RankCandidatesResponse:
    """The response that carries the scores of a query's candidates."""
    return ranking_pb2.RankCandidatesResponse(scores=pack_float32(scores), compute_microseconds=compute_microseconds)


def unpack_scores(response: ranking_pb2.RankCandidatesResponse, query: RankingQuery) -> NDArray[np.float32]:
    """The finite scores of the query's candidates in the response to it."""
    return _unpack_scores(response.scores, len(query.candidates.rows))


def pack_rows(lists: RaggedRows) -> packed_pb2.PackedRows:
    """Ragged rows as a message."""
    return packed_pb2.PackedRows(rows=pack_int32(lists.rows), lengths=pack_int32(lists.lengths))


def unpack_rows(message: packed_pb2.PackedRows, field: str) -> RaggedRows:
    """Ragged rows from a message."""
    rows = unpack_int32(message.rows, f"{field}.rows")
    lengths = unpack_int32(message.lengths, f"{field}.lengths")
    try:
        return RaggedRows.from_lengths(rows, lengths)
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from None


def pack_weights(histories: WatchHistories) -> bytes:
    """The weight of each watch; empty where all are unknown."""
    return b"" if np.isnan(histories.weights).all() else pack_float32(histories.weights)


def pack_timestamps(histories: WatchHistories) -> bytes:
    """The timestamp of each watch; empty where all are unknown."""
    return b"" if (histories.timestamps == UNKNOWN_TIME).all() else _pack_int64(histories.timestamps)


def pack_times(contexts: RequestContexts) -> bytes:
    """The time of each request."""
    return _pack_int64(contexts.times)


def pack_int32(values: NDArray[np.integer]) -> bytes:
    """Integers as little-endian int32."""
    return values.astype(INT32, copy=False).tobytes()


def unpack_int32(buffer: bytes, field: str) -> NDArray[np.int32]:
    """Int32 array of the bytes."""
    return _unpack(buffer, INT32, field).astype(np.int32, copy=False)


def pack_float32(values: NDArray[np.floating]) -> bytes:
    """Floats as little-endian float32."""
    return values.astype(FLOAT32, copy=False).tobytes()


def unpack_float32(buffer: bytes, field: str) -> NDArray[np.float32]:
    """Float32 array of the bytes."""
    return _unpack(buffer, FLOAT32, field).astype(np.float32, copy=False)


def _pack_int64(values: Timestamps) -> bytes:
    return values.astype(INT64, copy=False).tobytes()


def _unpack_int64(buffer: bytes, field: str) -> Timestamps:
    return _unpack(buffer, INT64, field).astype(np.int64, copy=False)


def _unpack_histories(
    request: candidate_pb2.RetrieveCandidatesRequest | ranking_pb2.RankCandidatesRequest,
) -> WatchHistories:
    lists = unpack_rows(request.histories, "histories")
    weights = timestamps = None
    if request.history_weights:
        weights = unpack_float32(request.history_weights, "history_weights")
        _check_length("history_weights", len(weights), len(lists.rows), "watches")
    if request.history_timestamps:
        timestamps = _unpack_int64(request.history_timestamps, "history_timestamps")
        _check_length("history_timestamps", len(timestamps), len(lists.rows), "watches")
    return WatchHistories.from_lengths(lists.rows, lists.lengths, weights, timestamps)


def _unpack_scores(buffer: bytes, count: int) -> NDArray[np.float32]:
    scores = unpack_float32(buffer, "scores")
    _check_length("scores", len(scores), count, "candidates")
    finite = np.isfinite(scores)
    if not finite.all():
        position = int(np.argmin(finite))
        raise ValueError(f"scores[{position}] is {scores[position]}: it has to be finite")
    return scores


def _unpack(buffer: bytes, dtype: np.dtype[np.generic], field: str) -> NDArray[np.generic]:
    if len(buffer) % dtype.itemsize:
        raise ValueError(f"{field} has {len(buffer)} bytes: not a multiple of {dtype.itemsize}")
    # torch warns of arrays that cannot be written to, as views of a message are. A copy of a few kilobytes is cheap.
    return np.frombuffer(buffer, dtype=dtype).copy()


def _check_length(field: str, found: int, wanted: int, of: str) -> None:
    if found != wanted:
        raise ValueError(f"{field} has {found} entries for {wanted} {of}")
