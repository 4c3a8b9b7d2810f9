"""Queries and answers survive the wire; bytes that are none are refused with the name of the field."""

from typing import Any

import numpy as np
import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from winnow.contexts import RequestContexts
from winnow.history import UNKNOWN_TIME, RaggedRows, WatchHistories
from winnow.queries import Candidates, RankingQuery, Restriction, RetrievalQuery
from winnow.serving.wire import (
    FLOAT32,
    INT32,
    pack_array,
    pack_candidates,
    pack_ranking_query,
    pack_retrieval_query,
    pack_rows,
    pack_scores,
    unpack_array,
    unpack_candidates,
    unpack_ranking_query,
    unpack_retrieval_query,
    unpack_rows,
    unpack_scores,
)
from winnow.v1 import packed_pb2
from winnow.v1.candidate_pb2 import RetrieveCandidatesRequest, RetrieveCandidatesResponse
from winnow.v1.ranking_pb2 import RankCandidatesRequest, RankCandidatesResponse

HISTORIES = WatchHistories.from_lengths(
    np.array([1, 2, 3], dtype=np.int32),
    np.array([2, 1]),
    np.array([0.5, np.nan, 5], dtype=np.float32),
    np.array([UNKNOWN_TIME, 10**12, 7]),
)
RETRIEVAL = RetrievalQuery(
    histories=HISTORIES, counts=np.array([5, 6], dtype=np.int32), exclusions=RaggedRows.from_lists([[], [9, 8]])
)
RANKING = RankingQuery(
    histories=HISTORIES,
    candidates=RaggedRows.from_lists([[4, 5], [6]]),
    contexts=RequestContexts(np.array([UNKNOWN_TIME, 7]), RaggedRows.from_lists([[], [3, 3, 1]])),
)


def lists_of(rows: RaggedRows) -> list[list[int]]:
    return [rows[position].tolist() for position in range(len(rows))]


def assert_equal_histories(found: WatchHistories, sent: WatchHistories) -> None:
    assert lists_of(found) == lists_of(sent)
    np.testing.assert_array_equal(found.weights, sent.weights)
    np.testing.assert_array_equal(found.timestamps, sent.timestamps)


def changed(message: Message, **fields: object) -> Message:
    """The message with other values in some fields."""
    copy = type(message).FromString(message.SerializeToString())
    for field, value in fields.items():
        copy.ClearField(field)
        copy.MergeFrom(type(message)(**{field: value}))
    return copy


def test_a_retrieval_query_survives_the_wire() -> None:
    request = RetrieveCandidatesRequest.FromString(pack_retrieval_query(RETRIEVAL, "a release").SerializeToString())
    assert request.release_id == "a release"
    found = unpack_retrieval_query(request)
    assert_equal_histories(found.histories, HISTORIES)
    assert found.counts.tolist() == [5, 6]
    assert lists_of(found.exclusions) == [[], [9, 8]]


def test_a_ranking_query_survives_the_wire() -> None:
    request = RankCandidatesRequest.FromString(pack_ranking_query(RANKING, "a release").SerializeToString())
    assert request.release_id == "a release"
    found = unpack_ranking_query(request)
    assert_equal_histories(found.histories, HISTORIES)
    assert lists_of(found.candidates) == [[4, 5], [6]]
    assert found.contexts is not None
    assert found.contexts.times.tolist() == [UNKNOWN_TIME, 7]
    assert lists_of(found.contexts.unclicked) == [[], [3, 3, 1]]


def test_what_nobody_said_is_not_sent() -> None:
    histories = WatchHistories.from_lists([[1], []])
    request = pack_ranking_query(RankingQuery(histories=histories, candidates=RANKING.candidates), "a release")
    assert {field.name for field, _ in request.ListFields()} == {"release_id", "histories", "candidates"}
    found = unpack_ranking_query(request)
    assert_equal_histories(found.histories, histories)
    assert found.contexts is None


def test_answers_survive_the_wire() -> None:
    sent = Candidates(RaggedRows.from_lists([[1, 2], [], [3]]), np.array([3, 2, 1], dtype=np.float32))
    response = RetrieveCandidatesResponse.FromString(pack_candidates(sent, 17).SerializeToString())
    assert response.compute_microseconds == 17
    assert lists_of(unpack_candidates(response).rows) == [[1, 2], [], [3]]
    assert unpack_candidates(response).scores.tolist() == [3, 2, 1]

    scored = RankCandidatesResponse.FromString(pack_scores(sent.scores, 18).SerializeToString())
    assert scored.compute_microseconds == 18
    assert unpack_scores(scored, RANKING).tolist() == [3, 2, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"counts": b"abc"}, "counts has 3 bytes: not a multiple of 4"),
        ({"counts": pack_array(np.array([1]), INT32)}, "counts has 1 entries for 2 histories"),
        ({"exclusions": pack_rows(RaggedRows.empty(3))}, "exclusions has 3 entries for 2 histories"),
        ({"history_weights": pack_array(np.ones(2), FLOAT32)}, "history_weights has 2 entries for 3 watches"),
        ({"history_timestamps": b"1234567"}, "history_timestamps has 7 bytes: not a multiple of 8"),
        ({"histories": packed_pb2.PackedRows(rows=b"12")}, "histories.rows has 2 bytes"),
    ],
)
def test_a_retrieval_query_that_does_not_fit_together_is_refused(change: dict[str, object], message: str) -> None:
    request = changed(pack_retrieval_query(RETRIEVAL, "a release"), **change)
    assert isinstance(request, RetrieveCandidatesRequest)
    with pytest.raises(ValueError, match=f"^{message}"):
        unpack_retrieval_query(request)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"candidates": pack_rows(RaggedRows.empty(1))}, "candidates has 1 entries for 2 histories"),
        ({"request_times": bytes(24)}, "request_times has 3 entries for 2 histories"),
        ({"request_times": b"1234567"}, "request_times has 7 bytes: not a multiple of 8"),
        ({"unclicked": packed_pb2.PackedRows()}, "unclicked has 0 entries for 2 histories"),
    ],
)
def test_a_ranking_query_that_does_not_fit_together_is_refused(change: dict[str, object], message: str) -> None:
    request = changed(pack_ranking_query(RANKING, "a release"), **change)
    assert isinstance(request, RankCandidatesRequest)
    with pytest.raises(ValueError, match=f"^{message}"):
        unpack_ranking_query(request)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (b"123", "scores has 3 bytes"),
        (pack_array(np.ones(2), FLOAT32), "scores has 2 entries for 3 candidates"),
        (pack_array(np.array([1, np.nan, np.inf]), FLOAT32), r"scores\[1\] is nan: it has to be finite"),
    ],
)
def test_scores_that_are_none_are_refused(scores: bytes, message: str) -> None:
    candidates = pack_rows(RaggedRows.from_lists([[1, 2], [3]]))
    with pytest.raises(ValueError, match=message):
        unpack_candidates(RetrieveCandidatesResponse(candidates=candidates, scores=scores))
    with pytest.raises(ValueError, match=message):
        unpack_scores(RankCandidatesResponse(scores=scores), RANKING)


@given(st.lists(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=5), max_size=5))
def test_rows_survive_the_wire(lists: list[list[int]]) -> None:
    message = packed_pb2.PackedRows.FromString(pack_rows(RaggedRows.from_lists(lists)).SerializeToString())
    assert lists_of(unpack_rows(message, "histories")) == lists


def test_bytes_are_little_endian() -> None:
    assert pack_rows(RaggedRows.from_lists([[1]])).rows == b"\x01\x00\x00\x00"
    assert unpack_array(b"\x00\x01\x00\x00", INT32, "rows").tolist() == [256]
    assert unpack_array(pack_array(np.array([1.5]), FLOAT32), FLOAT32, "scores").tolist() == [1.5]


def test_arrays_can_be_written_to() -> None:
    assert unpack_array(bytes(8), INT32, "rows").flags.writeable


@given(rows=st.binary(max_size=40), lengths=st.binary(max_size=40))
def test_any_bytes_are_rows_or_a_value_error_that_names_the_field(rows: bytes, lengths: bytes) -> None:
    try:
        found = unpack_rows(packed_pb2.PackedRows(rows=rows, lengths=lengths), "histories")
    except ValueError as error:
        assert str(error).startswith("histories")
    else:
        assert int(found.lengths.sum()) * 4 == len(rows)


def test_a_huge_length_allocates_nothing() -> None:
    lengths = np.array([2**31 - 1], dtype="<i4").tobytes()
    with pytest.raises(ValueError, match="histories: lengths sum to 2147483647, but there are 0 rows"):
        unpack_rows(packed_pb2.PackedRows(rows=b"", lengths=lengths), "histories")


def restricted(*restrictions: Restriction | None) -> RetrievalQuery:
    count = len(restrictions)
    return RetrievalQuery(
        histories=WatchHistories.empty(count),
        counts=np.full(count, 5, dtype=np.int32),
        exclusions=RaggedRows.empty(count),
        restrictions={query: of for query, of in enumerate(restrictions) if of is not None},
    )


def plain(query: RetrievalQuery) -> dict[int, tuple[str, list[int] | None]]:
    return {
        position: (of.filter, None if of.allowed is None else of.allowed.tolist())
        for position, of in query.restrictions.items()
    }


def test_restrictions_survive_and_each_filter_travels_once() -> None:
    allowed, nothing = np.array([7, 3], dtype=np.int32), np.empty(0, dtype=np.int32)
    sent = restricted(
        Restriction(filter="a = 1"),
        None,
        Restriction(allowed=allowed),
        Restriction(filter="b = 1", allowed=nothing),
        Restriction(filter="a = 1", allowed=allowed),
    )
    message = pack_retrieval_query(sent, "r")
    assert [filtered.filter for filtered in message.filters] == ["a = 1", "b = 1"]
    assert plain(unpack_retrieval_query(message)) == plain(sent)
    assert not pack_retrieval_query(restricted(None), "r").HasField("allowed")


def positions(*queries: int) -> bytes:
    return pack_array(np.array(queries, dtype=np.int32), INT32)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"filters": [{"filter": "", "queries": positions(0)}]}, r"filters\[0\]\.filter is empty"),
        ({"filters": [{"filter": "a", "queries": positions(0, 0)}]}, "query 0 has two filters"),
        ({"filters": [{"filter": "a", "queries": positions(2)}]}, "there is no query 2 to restrict"),
        ({"filters": [{"filter": "a", "queries": positions(-1)}]}, "there is no query -1 to restrict"),
        ({"filters": [{"filter": "a", "queries": b"123"}]}, r"filters\[0\]\.queries has 3 bytes"),
        ({"allowing_queries": positions(0)}, "allowed has 0 entries for 1 allowing queries"),
        (
            {"allowing_queries": positions(1, 1), "allowed": pack_rows(RaggedRows.empty(2))},
            "allowing_queries has a query twice",
        ),
        ({"allowing_queries": positions(9), "allowed": pack_rows(RaggedRows.empty(1))}, "there is no query 9"),
    ],
)
def test_restrictions_that_do_not_fit_are_refused(fields: dict[str, Any], message: str) -> None:
    request = pack_retrieval_query(restricted(None, None), "r")
    request.MergeFrom(RetrieveCandidatesRequest(**fields))
    with pytest.raises(ValueError, match=message):
        unpack_retrieval_query(request)
