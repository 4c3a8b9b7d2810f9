"""Queries and answers of the stages as messages, in both directions.

Arrays travel as little-endian bytes, one copy away from NumPy. Lengths are checked before anything is built from them:
the unpacking functions raise ValueError, naming the field, for a message whose fields do not fit together. Whether rows
exist and counts are allowed is for the receiver to check.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from winnow.contexts import RequestContexts
from winnow.history import UNKNOWN_TIME, RaggedRows, WatchHistories
from winnow.queries import NO_RESTRICTIONS, Candidates, RankingQuery, Restriction, RetrievalQuery
from winnow.v1 import candidate_pb2, packed_pb2, ranking_pb2

INT32 = np.dtype("<i4")
INT64 = np.dtype("<i8")
FLOAT32 = np.dtype("<f4")


def pack_retrieval_query(query: RetrievalQuery, release_id: str) -> candidate_pb2.RetrieveCandidatesRequest:
    """The request that asks the release's candidate network."""
    return candidate_pb2.RetrieveCandidatesRequest(
        release_id=release_id,
        histories=pack_rows(query.histories),
        history_weights=_pack_weights(query.histories),
        history_timestamps=_pack_timestamps(query.histories),
        counts=pack_array(query.counts, INT32),
        exclusions=pack_rows(query.exclusions),
        **_pack_restrictions(query.restrictions),
    )


def unpack_retrieval_query(request: candidate_pb2.RetrieveCandidatesRequest) -> RetrievalQuery:
    """The query in a request."""
    query = RetrievalQuery(
        histories=_unpack_histories(request),
        counts=unpack_array(request.counts, INT32, "counts"),
        exclusions=unpack_rows(request.exclusions, "exclusions"),
        restrictions=_unpack_restrictions(request),
    )
    _check_length("counts", len(query.counts), len(query.histories), "histories")
    _check_length("exclusions", len(query.exclusions), len(query.histories), "histories")
    return query


def pack_candidates(candidates: Candidates, compute_microseconds: int) -> candidate_pb2.RetrieveCandidatesResponse:
    """The response that carries the candidates of a query."""
    return candidate_pb2.RetrieveCandidatesResponse(
        candidates=pack_rows(candidates.rows),
        scores=pack_array(candidates.scores, FLOAT32),
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
        history_weights=_pack_weights(query.histories),
        history_timestamps=_pack_timestamps(query.histories),
        candidates=pack_rows(query.candidates),
    )
    if query.contexts is not None:
        request.request_times = pack_array(query.contexts.times, INT64)
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
            unpack_array(request.request_times, INT64, "request_times"), unpack_rows(request.unclicked, "unclicked")
        )
        _check_length("request_times", len(contexts.times), len(histories), "histories")
        _check_length("unclicked", len(contexts.unclicked), len(histories), "histories")
    return RankingQuery(histories=histories, candidates=candidates, contexts=contexts)


def pack_scores(scores: NDArray[np.float32], compute_microseconds: int) -> ranking_pb2.RankCandidatesResponse:
    """The response that carries the scores of a query's candidates."""
    return ranking_pb2.RankCandidatesResponse(
        scores=pack_array(scores, FLOAT32), compute_microseconds=compute_microseconds
    )


def unpack_scores(response: ranking_pb2.RankCandidatesResponse, query: RankingQuery) -> NDArray[np.float32]:
    """The finite scores of the query's candidates in the response to it."""
    return _unpack_scores(response.scores, len(query.candidates.rows))


def pack_rows(lists: RaggedRows) -> packed_pb2.PackedRows:
    """Ragged rows as a message."""
    return packed_pb2.PackedRows(rows=pack_array(lists.rows, INT32), lengths=pack_array(lists.lengths, INT32))


def unpack_rows(message: packed_pb2.PackedRows, field: str) -> RaggedRows:
    """Ragged rows from a message."""
    rows = unpack_array(message.rows, INT32, f"{field}.rows")
    lengths = unpack_array(message.lengths, INT32, f"{field}.lengths")
    try:
        return RaggedRows.from_lengths(rows, lengths)
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from None


def pack_array(values: NDArray[Any], dtype: np.dtype[Any]) -> bytes:
    """Numbers as bytes: INT32, INT64 or FLOAT32."""
    return values.astype(dtype, copy=False).tobytes()


def unpack_array(buffer: bytes, dtype: np.dtype[Any], field: str) -> NDArray[Any]:
    """Numbers from bytes, in the machine's byte order."""
    if len(buffer) % dtype.itemsize:
        raise ValueError(f"{field} has {len(buffer)} bytes: not a multiple of {dtype.itemsize}")
    # Copied even where the byte order is the machine's: torch warns of arrays that it may not write to.
    return np.frombuffer(buffer, dtype).astype(dtype.newbyteorder("="))


def _pack_restrictions(restrictions: Mapping[int, Restriction]) -> dict[str, Any]:
    if not restrictions:
        return {}
    queries: dict[str, list[int]] = {}
    for query, restriction in restrictions.items():
        if restriction.filter:
            queries.setdefault(restriction.filter, []).append(query)
    allowed = {query: of.allowed for query, of in restrictions.items() if of.allowed is not None}
    return {
        "filters": [
            candidate_pb2.FilteredQueries(filter=text, queries=_pack_positions(positions))
            for text, positions in queries.items()
        ],
        "allowing_queries": _pack_positions(list(allowed)),
        "allowed": pack_rows(RaggedRows.from_lists(allowed.values())),
    }


def _unpack_restrictions(request: candidate_pb2.RetrieveCandidatesRequest) -> Mapping[int, Restriction]:
    if not request.filters and not request.allowing_queries:
        return NO_RESTRICTIONS
    filters: dict[int, str] = {}
    for position, filtered in enumerate(request.filters):
        if not filtered.filter:
            raise ValueError(f"filters[{position}].filter is empty")
        for query in unpack_array(filtered.queries, INT32, f"filters[{position}].queries").tolist():
            if query in filters:
                raise ValueError(f"query {query} has two filters")
            filters[query] = filtered.filter
    lists = unpack_rows(request.allowed, "allowed")
    allowing = unpack_array(request.allowing_queries, INT32, "allowing_queries").tolist()
    _check_length("allowed", len(lists), len(allowing), "allowing queries")
    if len(set(allowing)) != len(allowing):
        raise ValueError("allowing_queries has a query twice")
    allowed = {query: lists[position] for position, query in enumerate(allowing)}
    # The counts are one number, of four bytes, for each query.
    beyond = [query for query in (*filters, *allowing) if not 0 <= query < len(request.counts) // 4]
    if beyond:
        raise ValueError(f"there is no query {beyond[0]} to restrict")
    return {
        query: Restriction(filter=filters.get(query, ""), allowed=allowed.get(query)) for query in {*filters, *allowed}
    }


def _pack_positions(positions: Sequence[int]) -> bytes:
    return pack_array(np.array(positions, dtype=np.int32), INT32)


def _pack_weights(histories: WatchHistories) -> bytes:
    return b"" if np.isnan(histories.weights).all() else pack_array(histories.weights, FLOAT32)


def _pack_timestamps(histories: WatchHistories) -> bytes:
    return b"" if (histories.timestamps == UNKNOWN_TIME).all() else pack_array(histories.timestamps, INT64)


def _unpack_histories(
    request: candidate_pb2.RetrieveCandidatesRequest | ranking_pb2.RankCandidatesRequest,
) -> WatchHistories:
    lists = unpack_rows(request.histories, "histories")
    weights = timestamps = None
    if request.history_weights:
        weights = unpack_array(request.history_weights, FLOAT32, "history_weights")
        _check_length("history_weights", len(weights), len(lists.rows), "watches")
    if request.history_timestamps:
        timestamps = unpack_array(request.history_timestamps, INT64, "history_timestamps")
        _check_length("history_timestamps", len(timestamps), len(lists.rows), "watches")
    return WatchHistories.from_lengths(lists.rows, lists.lengths, weights, timestamps)


def _unpack_scores(buffer: bytes, count: int) -> NDArray[np.float32]:
    scores = unpack_array(buffer, FLOAT32, "scores")
    _check_length("scores", len(scores), count, "candidates")
    finite = np.isfinite(scores)
    if not finite.all():
        position = int(np.argmin(finite))
        raise ValueError(f"scores[{position}] is {scores[position]}: it has to be finite")
    return scores


def _check_length(field: str, found: int, wanted: int, of: str) -> None:
    if found != wanted:
        raise ValueError(f"{field} has {found} entries for {wanted} {of}")
