"""What Milvus is asked, and what becomes of answers that are short, wrong or late, from a server that says anything."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from pymilvus.grpc_gen import common_pb2, milvus_pb2, milvus_pb2_grpc, schema_pb2

from winnow.history import NO_ROWS, RaggedRows, Rows
from winnow.milvus.connection import MilvusAddress
from winnow.milvus.expressions import EngineFilter
from winnow.milvus.index import ALLOWED_ROWS_AT_ONCE, MAX_ROWS, NO_FILTER, MilvusIndex
from winnow.milvus.record import CollectionRecord
from winnow.queries import Candidates, Restriction, RetrievalQuery
from winnow.rpc.errors import DeadlineError, UnavailableError

ITEM_COUNT = 100_000
RECORD = CollectionRecord(
    release_id="20260101T000000Z-0123456789ab",
    row_count=ITEM_COUNT,
    width=2,
    list_count=64,
    probe_count=8,
    recall_at_200=1,
    attributes=(),
)
Answer = Callable[[milvus_pb2.SearchRequest], milvus_pb2.SearchResults]


def results(lists: list[list[int]], scores: list[float] | None = None) -> milvus_pb2.SearchResults:
    rows = [row for found in lists for row in found]
    return milvus_pb2.SearchResults(
        results=schema_pb2.SearchResultData(
            num_queries=len(lists),
            ids=schema_pb2.IDs(int_id=schema_pb2.LongArray(data=rows)),
            scores=[-float(place) for found in lists for place in range(len(found))] if scores is None else scores,
            topks=[len(found) for found in lists],
        )
    )


def refusal(reason: str) -> milvus_pb2.SearchResults:
    return milvus_pb2.SearchResults(status=common_pb2.Status(code=65535, reason=reason))


def topk(request: milvus_pb2.SearchRequest) -> int:
    return int(next(pair.value for pair in request.search_params if pair.key == "topk"))


def first_rows(request: milvus_pb2.SearchRequest) -> milvus_pb2.SearchResults:
    """The rows from 0 on for every query."""
    return results([list(range(topk(request)))] * request.nq)


@dataclass
class Fake(milvus_pb2_grpc.MilvusServiceServicer):  # type: ignore[misc]
    answer: Answer
    pause_seconds: float = 0
    requests: list[milvus_pb2.SearchRequest] = field(default_factory=list)
    metadata: list[dict[str, Any]] = field(default_factory=list)

    async def Search(self, request: milvus_pb2.SearchRequest, context: Any) -> milvus_pb2.SearchResults:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        await asyncio.sleep(self.pause_seconds)
        return self.answer(request)


def search(
    fake: Fake,
    query: RetrievalQuery,
    *,
    retired: Rows = NO_ROWS,
    filters: dict[str, EngineFilter] | None = None,
    seconds: float = 10,
    token_file: Path | None = None,
) -> Candidates:
    async def main() -> Candidates:
        server = grpc.aio.server()
        milvus_pb2_grpc.add_MilvusServiceServicer_to_server(fake, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        address = MilvusAddress(uri=f"http://127.0.0.1:{port}", token_file=token_file)
        try:
            async with address.channel() as channel:
                index = MilvusIndex(channel, address, RECORD, ITEM_COUNT, retired)
                users = np.ones((len(query), 2), dtype=np.float32)
                deadline = asyncio.get_running_loop().time() + seconds
                return await index.search(users, query, (filters or {}).__getitem__, deadline)
        finally:
            await server.stop(None)

    return asyncio.run(main())


def query_of(counts: list[int], excluded: list[list[int]], **restrictions: Restriction) -> RetrievalQuery:
    return RetrievalQuery(
        histories=RetrievalQuery.without_histories(np.array(counts, dtype=np.int32)).histories,
        counts=np.array(counts, dtype=np.int32),
        exclusions=RaggedRows.from_lists(excluded),
        restrictions={int(name.removeprefix("q")): restriction for name, restriction in restrictions.items()},
    )


def test_enough_is_asked_that_what_is_excluded_leaves_a_full_list() -> None:
    fake = Fake(first_rows)
    found = search(fake, query_of([5, 3], [list(range(100)), []]))
    assert found.rows[0].tolist() == [100, 101, 102, 103, 104]
    assert found.rows[1].tolist() == [0, 1, 2]
    assert found.rows.rows.dtype == np.int32
    assert found.scores.dtype == np.float32
    # Nobody pays for the exclusions of another, and no list of ids is sent.
    assert sorted(topk(request) for request in fake.requests) == [64, 128]
    assert all(request.dsl == "" for request in fake.requests)


def test_queries_that_want_about_as_much_are_asked_together() -> None:
    fake = Fake(first_rows)
    search(fake, query_of([200] * 30, [[row] for row in range(30)]))
    [request] = fake.requests
    assert (request.nq, topk(request)) == (30, 256)


def test_no_history_is_too_long_to_be_asked() -> None:
    fake = Fake(first_rows)
    found = search(fake, query_of([10], [list(range(30_000))]))
    assert topk(fake.requests[0]) == MAX_ROWS
    assert len(found.rows[0]) == 0


def probes(request: milvus_pb2.SearchRequest) -> int:
    return int(json.loads(next(pair.value for pair in request.search_params if pair.key == "params"))["nprobe"])


def test_what_the_nearest_lists_do_not_have_is_searched_in_all_of_them() -> None:
    def few(request: milvus_pb2.SearchRequest) -> milvus_pb2.SearchResults:
        nearest = [[1, 2], list(range(64))][: request.nq]
        return results(nearest if probes(request) == 8 else [[1, 2, 3, 4]])

    fake = Fake(few)
    restriction = Restriction(filter="x")
    query = query_of([10, 10], [[2], []], q0=restriction, q1=restriction)
    found = search(fake, query, filters={"x": EngineFilter("x == 1")})
    assert found.rows[0].tolist() == [1, 3, 4]
    assert found.rows[1].tolist() == list(range(10))
    # The other query is not searched again.
    assert [(request.nq, probes(request)) for request in fake.requests] == [(2, 8), (1, 64)]


def test_what_is_excluded_is_no_reason_to_search_again() -> None:
    fake = Fake(lambda _request: results([list(range(60))]))
    found = search(
        fake, query_of([50], [list(range(10))], q0=Restriction(filter="x")), filters={"x": EngineFilter("x")}
    )
    assert len(found.rows[0]) == 50
    assert len(fake.requests) == 1


def test_a_short_answer_is_a_short_list() -> None:
    found = search(Fake(lambda _request: results([[7], []])), query_of([5, 5], [[], []]))
    assert found.rows.lengths.tolist() == [1, 0]


def test_an_empty_answer_without_lists_is_an_empty_list() -> None:
    found = search(Fake(lambda _request: milvus_pb2.SearchResults()), query_of([5, 5], [[], []]))
    assert found.rows.lengths.tolist() == [0, 0]


def test_retired_items_and_repetitions_are_dropped_and_the_order_is_that_of_the_scores() -> None:
    fake = Fake(lambda _request: results([[4, 9, 4, 2, 3]], [1.0, 5.0, 1.0, 2.0, 3.0]))
    found = search(fake, query_of([5], [[]]), retired=np.array([3], dtype=np.int32))
    assert found.rows[0].tolist() == [9, 2, 4]
    assert found.scores.tolist() == [5, 2, 1]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (results([[ITEM_COUNT]]), "a row that is none of 100000 items"),
        (results([[-1]]), "a row that is none of"),
        (results([[2**40]]), "a row that is none of"),
        (results([[1], [2]]), "2 rows and 2 scores in 2 lists for 1 queries"),
        (results([[1, 2]], [1.0]), "2 rows and 1 scores"),
        (results([[1]], [float("nan")]), "a score that is not finite"),
        (results([[1]], [float("inf")]), "a score that is not finite"),
        (refusal("vector dimension mismatch, expected 8, got 2"), "Milvus refuses a search"),
    ],
)
def test_an_answer_that_cannot_be_is_no_answer(answer: milvus_pb2.SearchResults, reason: str) -> None:
    with pytest.raises(UnavailableError, match=reason):
        search(Fake(lambda _request: answer), query_of([5], [[]]))


def test_a_slow_answer_is_given_up_at_the_deadline() -> None:
    with pytest.raises(DeadlineError, match="Milvus has not answered in time"):
        search(Fake(first_rows, pause_seconds=60), query_of([5], [[]]), seconds=0.2)


def test_a_deadline_that_has_passed_asks_nothing() -> None:
    fake = Fake(first_rows)
    with pytest.raises(DeadlineError):
        search(fake, query_of([5], [[]]), seconds=-1)
    assert not fake.requests


def test_where_nobody_listens_the_call_fails_at_once() -> None:
    async def main() -> None:
        address = MilvusAddress(uri="http://127.0.0.1:1")
        async with address.channel() as channel:
            index = MilvusIndex(channel, address, RECORD, ITEM_COUNT)
            deadline = asyncio.get_running_loop().time() + 30
            await index.search(np.ones((1, 2), dtype=np.float32), query_of([5], [[]]), lambda _: NO_FILTER, deadline)

    with pytest.raises(UnavailableError, match="Milvus does not answer: UNAVAILABLE"):
        asyncio.run(main())


def test_a_filter_that_milvus_refuses_fails_nobody_elses_query() -> None:
    fake = Fake(lambda request: refusal("cannot parse") if request.dsl else first_rows(request))
    filters = {"bad": EngineFilter("bad"), "long": EngineFilter(None)}
    query = query_of([2, 2, 2], [[], [], []], q0=Restriction(filter="bad"), q2=Restriction(filter="long"))
    found = search(fake, query, filters=filters)
    assert found.rows.lengths.tolist() == [0, 2, 0]


def test_an_allow_list_is_asked_in_parts_without_what_is_excluded() -> None:
    def listed(request: milvus_pb2.SearchRequest) -> milvus_pb2.SearchResults:
        rows = [int(row) for row in request.dsl.rpartition("[")[2].rstrip("]").split(",")]
        return results([rows[: topk(request)]], [float(row) for row in rows[: topk(request)]])

    fake = Fake(listed)
    allowed = np.arange(10_000, dtype=np.int32)[::-1]
    restriction = Restriction(filter="x", allowed=np.concatenate([allowed, allowed]))
    query = query_of([8_000], [[9_999, 5]], q0=restriction)
    found = search(fake, query, filters={"x": EngineFilter("x == 1")})
    assert len(fake.requests) == 3
    assert all(request.dsl.startswith("(x == 1) && row in [") for request in fake.requests)
    assert max(request.dsl.count(",") for request in fake.requests) < ALLOWED_ROWS_AT_ONCE
    assert len(found.rows[0]) == 8_000
    assert {9_999, 5}.isdisjoint(found.rows[0].tolist())


def test_an_empty_allow_list_asks_nothing() -> None:
    fake = Fake(first_rows)
    found = search(fake, query_of([5], [[]], q0=Restriction(allowed=NO_ROWS)))
    assert (found.rows.lengths.tolist(), fake.requests) == ([0], [])


def test_no_query_asks_nothing() -> None:
    fake = Fake(first_rows)
    assert len(search(fake, query_of([], [])).rows) == 0
    assert not fake.requests


def test_the_token_is_read_from_its_file_and_sent(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("winnow:secret\n")
    fake = Fake(first_rows)
    search(fake, query_of([5], [[]]), token_file=tmp_path / "token")
    assert fake.metadata[0]["authorization"] == "d2lubm93OnNlY3JldA=="
