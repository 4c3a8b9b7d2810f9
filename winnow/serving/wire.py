"""Arrays between gateway and stages: little-endian bytes, one copy away from NumPy.

Lengths are checked before anything is built from them; every ValueError names the field.
"""

import numpy as np
from numpy.typing import NDArray

from winnow.contexts import RequestContexts
from winnow.history import UNKNOWN_TIME, RaggedRows, WatchHistories
from winnow.queries import Candidates, RankingQuery, RetrievalQuery
from winnow.v1 import candidate_pb2, packed_pb2, ranking_pb2

INT32 = np.dtype("<i4")
INT64 = np.dtype("<i8")
FLOAT32 = np.dtype("<f4")


def pack_rows(lists: RaggedRows) -> packed_pb2.PackedRows:
    """Ragged rows as a message."""
    return packed_pb2.PackedRows(rows=pack_int32(lists.rows), lengths=pack_int32(lists.lengths))


def unpack_rows(message: packed_pb2.PackedRows, field: str) -> RaggedRows:
    """Ragged rows from a message. Raises ValueError, naming the field, where rows and lengths do not fit together."""
    rows = unpack_int32(message.rows, f"{field}.rows")
    lengths = unpack_int32(message.lengths, f"{field}.lengths")
    try:
        return RaggedRows.from_lengths(rows, lengths)
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from None


def pack_weights(histories: WatchHistories) -> bytes:
    """How much each watch counts as little-endian float32; empty where nobody said for any."""
    known = not np.isnan(histories.weights).all()
    return pack_float32(histories.weights) if known else b""


def pack_timestamps(histories: WatchHistories) -> bytes:
    """When each watch was as little-endian int64; empty where nobody said for any."""
    known = (histories.timestamps != UNKNOWN_TIME).any()
    return histories.timestamps.astype(INT64, copy=False).tobytes() if known else b""


def unpack_histories(message: packed_pb2.PackedRows, weights: bytes, timestamps: bytes) -> WatchHistories:
    """Histories from a message and what `pack_weights` and `pack_timestamps` made.

    Raises ValueError, naming the field, where they do not fit together.
    """
    lists = unpack_rows(message, "histories")
    known_weights = unpack_float32(weights, "history_weights") if weights else None
    known_timestamps = None
    if timestamps:
        known_timestamps = _unpack(timestamps, INT64, "history_timestamps").astype(np.int64, copy=False)
    for field, values in (("history_weights", known_weights), ("history_timestamps", known_timestamps)):
        if values is not None and len(values) != len(lists.rows):
            raise ValueError(f"{field} has {len(values)} entries for {len(lists.rows)} watches")
    return WatchHistories.from_lengths(lists.rows, lists.lengths, known_weights, known_timestamps)


def pack_times(contexts: RequestContexts) -> bytes:
    """When each request is made as little-endian int64."""
    return contexts.times.astype(INT64, copy=False).tobytes()


def unpack_contexts(times: bytes, unclicked: packed_pb2.PackedRows, count: int) -> RequestContexts | None:
    """What is known of `count` requests, from what `pack_times` and `pack_rows` made; None where nothing was sent.

    Raises ValueError, naming the field, where they do not fit together.
    """
    if not times and not unclicked.lengths and not unclicked.rows:
        return None
    known = RequestContexts(
        _unpack(times, INT64, "request_times").astype(np.int64, copy=False), unpack_rows(unclicked, "unclicked")
    )
    for field, found in (("request_times", len(known.times)), ("unclicked", len(known.unclicked))):
        if found != count:
            raise ValueError(f"{field} has {found} entries for {count} queries")
    return known


def pack_int32(values: NDArray[np.integer]) -> bytes:
    """Integers as little-endian int32."""
    return values.astype(INT32, copy=False).tobytes()


def pack_float32(values: NDArray[np.floating]) -> bytes:
    """Floats as little-endian float32."""
    return values.astype(FLOAT32, copy=False).tobytes()


def unpack_int32(buffer: bytes, field: str) -> NDArray[np.int32]:
    """Int32 array of the bytes. Raises ValueError, naming the field, for a broken length."""
    return _unpack(buffer, INT32, field).astype(np.int32, copy=False)


def unpack_float32(buffer: bytes, field: str) -> NDArray[np.float32]:
    """Float32 array of the bytes. Raises ValueError, naming the field, for a broken length."""
    return _unpack(buffer, FLOAT32, field).astype(np.float32, copy=False)


def _unpack(buffer: bytes, dtype: np.dtype[np.generic], field: str) -> NDArray[np.generic]:
    if len(buffer) % dtype.itemsize:
        raise ValueError(f"{field} has {len(buffer)} bytes: not a multiple of {dtype.itemsize}")
    # Copied once: torch takes no memory that it must not write, and the messages are kilobytes.
    return np.frombuffer(buffer, dtype=dtype).copy()


def pack_retrieval_query(query: RetrievalQuery, release_id: str) -> candidate_pb2.RetrieveCandidatesRequest:
    """A call to the candidate stage."""
    return candidate_pb2.RetrieveCandidatesRequest(
        release_id=release_id,
        histories=pack_rows(query.histories),
        history_weights=pack_weights(query.histories),
        history_timestamps=pack_timestamps(query.histories),
        counts=pack_int32(query.counts),
        exclusions=pack_rows(query.exclusions),
    )


def unpack_candidates(response: candidate_pb2.RetrieveCandidatesResponse) -> Candidates:
    """The answer of the candidate stage. Raises ValueError, naming the field, where it does not fit together."""
    rows = unpack_rows(response.candidates, "candidates")
    return Candidates(rows, unpack_scores(response.scores, len(rows.rows)))


def pack_ranking_query(query: RankingQuery, release_id: str) -> ranking_pb2.RankCandidatesRequest:
    """A call to the ranking stage."""
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


def unpack_scores(packed: bytes, count: int) -> NDArray[np.float32]:
    """Scores of so many rows. Raises ValueError where there are more or fewer."""
    scores = unpack_float32(packed, "scores")
    if len(scores) != count:
        raise ValueError(f"{len(scores)} scores for {count} rows")
    return scores
