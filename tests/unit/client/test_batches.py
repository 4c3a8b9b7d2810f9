"""Many requests travel in few calls, and each has the outcome that it would have alone."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import grpc
import pytest

from tests.unit.client.fake_gateway import Failure, FakeGateway
from winnow.client import AsyncWinnowClient, RecommendationRequest, Recommendations, Watch, WinnowClient, WinnowError
from winnow.client.batches import MAX_BYTES, batch_requests
from winnow.rpc.violations import Violation
from winnow.v1 import recommendation_pb2


def watched(*item_ids: str) -> RecommendationRequest:
    return RecommendationRequest(list(item_ids))


def item_of(outcome: Recommendations | WinnowError) -> str:
    assert isinstance(outcome, Recommendations)
    return outcome.items[0].item_id


def test_all_arguments_of_a_request_are_sent(client: WinnowClient, gateway: FakeGateway) -> None:
    client.recommend_many(
        [
            RecommendationRequest(
                [Watch("a", weight=2, time=7)],
                count=3,
                filter="year > 1990",
                allowed_item_ids=["d"],
                excluded_item_ids=["b"],
                include_watched=True,
                require_ranked=True,
                request_time=9,
                unclicked_item_ids=["c"],
                candidate_item_ids=["e"],
            )
        ]
    )
    client.recommend(
        [Watch("a", weight=2, time=7)],
        count=3,
        filter="year > 1990",
        allowed_item_ids=["d"],
        excluded_item_ids=["b"],
        include_watched=True,
        require_ranked=True,
        request_time=9,
        unclicked_item_ids=["c"],
        candidate_item_ids=["e"],
    )
    batch, alone = gateway.requests
    assert list(batch.requests) == [alone]


def test_a_request_that_fails_is_an_error_in_its_place(client: WinnowClient, gateway: FakeGateway) -> None:
    gateway.status = recommendation_pb2.RequestStatus(
        code=3,
        message="requests[1].history[0].item_id: is bad",
        violations=[recommendation_pb2.FieldViolation(field="requests[1].history[0].item_id", description="is bad")],
    )
    first, bad, last = client.recommend_many([watched("a"), watched("bad"), watched("c")])
    assert (item_of(first), item_of(last)) == ("a", "c")
    assert isinstance(bad, WinnowError)
    assert bad.code is grpc.StatusCode.INVALID_ARGUMENT
    assert bad.message == "history[0].item_id: is bad"
    assert bad.violations == (Violation("history[0].item_id", "is bad"),)


def test_a_call_that_fails_is_the_error_of_its_own_requests(client: WinnowClient, gateway: FakeGateway) -> None:
    gateway.failures = [Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "too much work is waiting")]
    found = client.recommend_many([watched(str(number)) for number in range(300)])
    assert [type(outcome) for outcome in found] == [WinnowError] * 256 + [Recommendations] * 44
    assert len(set(map(id, found))) == 300


def test_requests_are_packed_by_number_and_by_size() -> None:
    large = RecommendationRequest(["x" * 500] * 1000)
    assert [len(batch.requests) for batch in batch_requests([watched("a")] * 600)] == [256, 256, 88]
    packed = batch_requests([large] * 10)
    assert sum(len(batch.requests) for batch in packed) == 10
    assert all(batch.ByteSize() < MAX_BYTES * 1.01 for batch in packed)
    assert batch_requests([]) == []


@pytest.mark.parametrize(
    ("request_", "error", "text"),
    [
        (RecommendationRequest("abc"), TypeError, "requests[1].history is 'abc'"),
        (RecommendationRequest([], count=0), ValueError, "requests[1].count is 0"),
    ],
)
def test_an_argument_that_makes_no_sense_is_named_and_nothing_is_sent(
    client: WinnowClient, gateway: FakeGateway, request_: RecommendationRequest, error: type[Exception], text: str
) -> None:
    with pytest.raises(error) as raised:
        client.recommend_many([watched("a"), request_])
    assert str(raised.value).startswith(text)
    assert gateway.requests == []


def with_async_client(
    gateway: FakeGateway, use: Callable[[AsyncWinnowClient], Coroutine[Any, Any, None]], **options: Any
) -> None:
    async def main() -> None:
        async with AsyncWinnowClient(gateway.target, timeout_seconds=5, **options) as client:
            await use(client)

    asyncio.run(main())


def test_the_asynchronous_client_sends_and_reads_the_same(client: WinnowClient, gateway: FakeGateway) -> None:
    gateway.response = None

    async def use(asynchronous: AsyncWinnowClient) -> None:
        assert await asynchronous.recommend(["a"]) == client.recommend(["a"])
        assert await asynchronous.retrieve(["a"]) == client.retrieve(["a"])
        assert await asynchronous.rank(["a"], ["b"]) == client.rank(["a"], ["b"])
        assert await asynchronous.items(["a"]) == client.items(["a"])
        assert await asynchronous.schema() == client.schema()
        assert await asynchronous.search("a") == client.search("a")
        assert [page async for page in asynchronous.search_pages("a")] == list(client.search_pages("a"))
        assert await asynchronous.recommend_many([watched("a")]) == client.recommend_many([watched("a")])

    with_async_client(gateway, use)
    assert gateway.requests[0::2] == gateway.requests[1::2]


def test_an_asynchronous_call_that_fails_raises_the_same_error(gateway: FakeGateway) -> None:
    gateway.failures = [Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")]

    async def use(client: AsyncWinnowClient) -> None:
        with pytest.raises(WinnowError, match="RESOURCE_EXHAUSTED: full"):
            await client.recommend(["a"])

    with_async_client(gateway, use)


def batch_sizes(gateway: FakeGateway) -> list[int]:
    return [len(request.requests) for request in gateway.requests]


def test_concurrent_calls_are_coalesced_and_each_gets_its_own_answer(gateway: FakeGateway) -> None:
    async def use(client: AsyncWinnowClient) -> None:
        found = await asyncio.gather(*(client.recommend([str(number)]) for number in range(100)))
        assert [answer.items[0].item_id for answer in found] == [str(number) for number in range(100)]

    with_async_client(gateway, use, coalesce=True)
    assert sum(batch_sizes(gateway)) == 100
    assert len(gateway.requests) <= 3


def test_a_coalesced_call_that_fails_fails_no_other(gateway: FakeGateway) -> None:
    async def use(client: AsyncWinnowClient) -> None:
        first, bad, last = await asyncio.gather(
            *(client.recommend([item_id]) for item_id in ("a", "bad", "c")), return_exceptions=True
        )
        assert isinstance(first, Recommendations)
        assert isinstance(last, Recommendations)
        assert isinstance(bad, WinnowError)
        assert bad.code is grpc.StatusCode.INVALID_ARGUMENT

    with_async_client(gateway, use, coalesce=True)
    assert batch_sizes(gateway) == [3]


def test_a_cancelled_call_that_waits_is_not_sent_and_the_others_are_answered(gateway: FakeGateway) -> None:
    async def use(client: AsyncWinnowClient) -> None:
        calls = [asyncio.create_task(client.recommend([str(number)])) for number in range(60)]
        await asyncio.sleep(0)
        for call in calls[::3]:
            call.cancel()
        found = await asyncio.gather(*calls, return_exceptions=True)
        for number, outcome in enumerate(found):
            if number % 3 == 0:
                assert isinstance(outcome, asyncio.CancelledError)
            else:
                assert isinstance(outcome, Recommendations)
                assert outcome.items[0].item_id == str(number)

    with_async_client(gateway, use, coalesce=True)
    assert sum(batch_sizes(gateway)) == 40


def test_a_call_cancelled_on_the_way_leaves_those_that_travel_with_it(gateway: FakeGateway) -> None:
    async def use(client: AsyncWinnowClient) -> None:
        calls = [asyncio.create_task(client.recommend([str(number)])) for number in range(10)]
        await asyncio.to_thread(gateway.received.wait, 5)
        calls[4].cancel()
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(outcome, Recommendations) for number, outcome in enumerate(found) if number != 4)

    with_async_client(gateway, use, coalesce=True)


def test_a_failed_call_is_an_error_of_its_own_for_each_that_travelled_in_it(gateway: FakeGateway) -> None:
    gateway.failures = [Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")]

    async def use(client: AsyncWinnowClient) -> None:
        found = await asyncio.gather(*(client.recommend(["a"]) for _ in range(3)), return_exceptions=True)
        assert all(isinstance(outcome, WinnowError) and outcome.message == "full" for outcome in found)
        assert len(set(map(id, found))) == 3

    with_async_client(gateway, use, coalesce=True)


def test_after_close_calls_are_refused(gateway: FakeGateway) -> None:
    async def use(client: AsyncWinnowClient) -> None:
        await client.close()
        with pytest.raises(WinnowError, match="UNAVAILABLE: shutting down"):
            await client.recommend(["a"])

    with_async_client(gateway, use, coalesce=True)
