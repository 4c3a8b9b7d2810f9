"""A batch is split without being parsed, and what happens to one of its requests happens to no other."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import grpc
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from gateway.batches import MAX_REQUESTS, SECONDS_PER_TURN, Batches, Turns, split
from winnow.rpc.errors import InvalidRequestError, OverloadedError, StageUnavailableError
from winnow.rpc.violations import Violation
from winnow.serving.metrics import Metrics
from winnow.v1.recommendation_pb2 import (
    BatchRecommendItemsRequest,
    BatchRecommendItemsResponse,
    RecommendItemsRequest,
    RecommendItemsResponse,
    RecommendItemsResult,
    Watch,
)


def batch(count: int) -> bytes:
    requests = [RecommendItemsRequest(item_count=position) for position in range(count)]
    return BatchRecommendItemsRequest(requests=requests).SerializeToString()


def refusal(data: bytes) -> Violation:
    refused = split(data)
    assert isinstance(refused, InvalidRequestError)
    (violation,) = refused.violations
    return violation


def test_a_batch_of_256_is_split_into_its_requests() -> None:
    parts = split(batch(256))
    assert isinstance(parts, list)
    assert [RecommendItemsRequest.FromString(part).item_count for part in parts] == list(range(256))


def test_an_empty_batch_is_refused() -> None:
    assert refusal(b"") == Violation("requests", "is empty: there is nothing to answer")


def test_257_requests_are_refused() -> None:
    assert refusal(batch(257)) == Violation("requests", "has more than 256 requests")


def test_no_more_is_looked_at_than_a_batch_may_hold() -> None:
    class Counted(bytes):
        read = 0

        def __getitem__(self, key: Any) -> Any:
            Counted.read += 1
            return super().__getitem__(key)

    assert refusal(Counted(b"\x0a\x00" * 2_000_000)).field == "requests"
    assert refusal(Counted(b"\x10\x00" * 2_000_000)).description == "has more than 100 unknown fields"
    assert Counted.read < 2000


def test_fields_of_later_versions_are_skipped() -> None:
    later = b"\x10\x96\x01" + b"\x1a\x02hi" + b"\x25\x00\x00\x00\x00" + b"\x29" + b"\x00" * 8
    parts = split(later + batch(2) + later)
    assert isinstance(parts, list)
    assert len(parts) == 2


@pytest.mark.parametrize("data", [b"\x0a", b"\x0a\x05abc", b"\xff" * 20, b"\x0b\x00", b"\x25\x00" * 3, b"\x0a\xff"])
def test_a_broken_batch_is_refused(data: bytes) -> None:
    assert refusal(data) == Violation("request", "is not a valid message of this method")


@given(data=st.binary(max_size=200))
def test_any_bytes_are_split_as_protobuf_splits_them_or_refused(data: bytes) -> None:
    parts = split(data)
    try:
        parsed = BatchRecommendItemsRequest.FromString(data)
    except DecodeError:
        return
    if isinstance(parts, list):
        assert [RecommendItemsRequest.FromString(part) for part in parts] == list(parsed.requests)
    else:
        # Groups are no fields of this contract; protobuf would skip them.
        assert not parsed.requests or parts.violations[0].description == "is not a valid message of this method"


@given(sizes=st.lists(st.lists(st.text(max_size=20), max_size=5), min_size=1, max_size=20))
def test_parts_are_the_bytes_of_the_requests(sizes: list[list[str]]) -> None:
    requests = [RecommendItemsRequest(history=[Watch(item_id=id_) for id_ in ids]) for ids in sizes]
    assert split(BatchRecommendItemsRequest(requests=requests).SerializeToString()) == [
        request.SerializeToString() for request in requests
    ]


async def named(data: bytes) -> RecommendItemsResponse:
    await asyncio.sleep(0)
    return RecommendItemsResponse(release_id=data.decode())


def answered(
    requests: Sequence[bytes],
    answer: Callable[[bytes], Coroutine[Any, Any, RecommendItemsResponse]],
    metrics: Metrics | None = None,
) -> list[RecommendItemsResult]:
    async def main() -> BatchRecommendItemsResponse:
        return await Batches(metrics or Metrics()).answer(requests, answer)

    return list(asyncio.run(main()).results)


def test_answers_are_in_the_order_of_the_requests() -> None:
    async def answer(data: bytes) -> RecommendItemsResponse:
        await asyncio.sleep(0.01 if data == b"slow" else 0)
        return await named(data)

    results = answered([b"slow", b"a", b"b", b"a"], answer)
    assert [result.response.release_id for result in results] == ["slow", "a", "b", "a"]


def test_one_that_fails_fails_no_other() -> None:
    failures = {
        b"invalid": InvalidRequestError([Violation("history[1].weight", "is -1"), Violation("item_count", "is -1")]),
        b"unreadable": InvalidRequestError([Violation("request", "is not a valid message of this method")]),
        b"overloaded": OverloadedError("too much work is waiting", retry_after_seconds=0.25),
        b"degraded": StageUnavailableError("the full chain gave no answer"),
        b"stray": asyncio.CancelledError(),
        b"bug": KeyError("a secret"),
    }

    async def answer(data: bytes) -> RecommendItemsResponse:
        if data in failures:
            raise failures[data]
        return await named(data)

    metrics = Metrics()
    good, invalid, unreadable, overloaded, degraded, stray, bug, last = answered(
        [b"good", *failures, b"good"], answer, metrics
    )
    assert good.response.release_id == last.response.release_id == "good"
    assert [result.status.code for result in (invalid, unreadable, overloaded, degraded, stray, bug)] == [
        code.value[0]
        for code in (
            grpc.StatusCode.INVALID_ARGUMENT,
            grpc.StatusCode.INVALID_ARGUMENT,
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.INTERNAL,
        )
    ]
    assert [violation.field for violation in invalid.status.violations] == [
        "requests[1].history[1].weight",
        "requests[1].item_count",
    ]
    assert invalid.status.message == "requests[1].history[1].weight: is -1 (and 1 more)"
    assert [violation.field for violation in unreadable.status.violations] == ["requests[2]"]
    assert overloaded.status.retry_after_milliseconds == 250
    assert not degraded.status.HasField("retry_after_milliseconds")
    assert bug.status.message.startswith("internal error ")
    assert "secret" not in bug.status.message
    count = metrics.registry.get_sample_value
    assert count("winnow_batch_requests_total", {"code": "OK"}) == 2
    assert count("winnow_batch_requests_total", {"code": "UNAVAILABLE"}) == 2


class Clock:
    """Time passes only while requests are taken up."""

    def __init__(self) -> None:
        self.now = 1.0

    def __call__(self) -> float:
        return self.now


def test_a_hang_up_ends_the_requests_in_flight_and_begins_no_other() -> None:
    begun: list[bytes] = []
    ended: list[bytes] = []
    clock = Clock()

    async def main() -> None:
        async def answer(data: bytes) -> RecommendItemsResponse:
            begun.append(data)
            try:
                if data == b"b":
                    # The third is not taken up yet when the caller leaves.
                    clock.now += SECONDS_PER_TURN
                    call.cancel()
                await asyncio.sleep(60)
            finally:
                ended.append(data)
            return RecommendItemsResponse()

        batches = Batches(Metrics(), Turns(clock))
        call = asyncio.create_task(batches.answer([b"a", b"b", b"c"], answer))
        await asyncio.wait([call])
        assert call.cancelled()

    asyncio.run(main())
    assert begun == [b"a", b"b"]
    assert sorted(ended) == begun


def log_of_turns(batch_count: int, seconds_per_request: float) -> str:
    """What runs on the event loop, in order: r takes up a request of some batch, . is other work."""
    log: list[str] = []
    clock = Clock()

    async def answer(data: bytes) -> RecommendItemsResponse:
        log.append("r")
        clock.now += seconds_per_request
        return RecommendItemsResponse()

    async def main() -> None:
        async def other() -> None:
            while True:
                log.append(".")
                await asyncio.sleep(0)

        beside = asyncio.create_task(other())
        batches = Batches(Metrics(), Turns(clock))
        await asyncio.gather(*(batches.answer([b"x"] * MAX_REQUESTS, answer) for _ in range(batch_count)))
        beside.cancel()

    asyncio.run(main())
    assert log.count("r") == batch_count * MAX_REQUESTS
    return "".join(log)


@pytest.mark.parametrize("batch_count", [1, 3])
def test_other_work_runs_between_the_requests_of_batches(batch_count: int) -> None:
    quarter_of_a_turn = SECONDS_PER_TURN / 4 * 1.01
    longest = max(map(len, log_of_turns(batch_count, quarter_of_a_turn).split(".")))
    assert longest == 4


def test_a_request_that_takes_longer_than_a_turn_has_one_alone() -> None:
    assert "rr" not in log_of_turns(2, 2 * SECONDS_PER_TURN)


def test_requests_that_take_no_time_are_taken_up_together() -> None:
    assert "r" * MAX_REQUESTS in log_of_turns(1, 0.0)
