"""What callers may pass, what is sent for it, and what is refused before anything is sent."""

import inspect
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from gateway import requests as gateway_requests
from gateway import settings as gateway_settings
from tests.unit.client.fake_gateway import FakeGateway
from winnow.client import Watch, WinnowClient, request_messages
from winnow.v1 import catalogue_pb2, recommendation_pb2


def calls_with_a_history(client: WinnowClient) -> list[Callable[[Any], object]]:
    return [client.recommend, client.retrieve, lambda history: client.rank(history, ["x"])]


def test_an_id_is_a_watch_of_which_nothing_else_is_known(client: WinnowClient, gateway: FakeGateway) -> None:
    history = ["sku-1", Watch("sku-2"), Watch("sku-3", weight=0.0, time=0), Watch("sku-4", 4.5, 1_700_000_000)]
    for call in calls_with_a_history(client):
        call(history)
    for request in gateway.requests:
        assert list(request.history) == [
            recommendation_pb2.Watch(item_id="sku-1"),
            recommendation_pb2.Watch(item_id="sku-2"),
            recommendation_pb2.Watch(item_id="sku-3", weight=0, timestamp_seconds=0),
            recommendation_pb2.Watch(item_id="sku-4", weight=4.5, timestamp_seconds=1_700_000_000),
        ]


@pytest.mark.parametrize("history", [("a", "b"), {"a": 1, "b": 2}, iter(["a", "b"]), (c for c in "ab")])
def test_any_iterable_is_a_history(client: WinnowClient, gateway: FakeGateway, history: Any) -> None:
    client.recommend(history)
    assert [watch.item_id for watch in gateway.requests[0].history] == ["a", "b"]


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        (1_700_000_000, 1_700_000_000),
        (1_700_000_000.9, 1_700_000_000),
        (-0.5, -1),
        (datetime(2023, 11, 14, 22, 13, 20, 999_999, tzinfo=UTC), 1_700_000_000),
        (datetime(2023, 11, 15, 3, 43, 20, tzinfo=timezone(timedelta(hours=5, minutes=30))), 1_700_000_000),
    ],
)
def test_times_are_sent_in_whole_seconds(
    client: WinnowClient, gateway: FakeGateway, time: float | datetime, seconds: int
) -> None:
    client.recommend([Watch("a", time=time)], request_time=time)
    assert gateway.requests[0].history[0].timestamp_seconds == seconds
    assert gateway.requests[0].request_timestamp_seconds == seconds


def test_everything_said_is_sent(client: WinnowClient, gateway: FakeGateway) -> None:
    client.recommend(
        ["a"],
        count=7,
        excluded_item_ids=["b"],
        include_watched=True,
        require_ranked=True,
        request_time=5,
        unclicked_item_ids=["c", "c"],
        candidate_item_ids=["f", "g"],
        caps={"genres": 2, "author": 1},
        pinned_items={"p": 3},
        diversity=0.0,
    )
    client.retrieve(["a"], count=8, excluded_item_ids=["b"], include_watched=True)
    client.rank(["a"], ["d", "e"], request_time=5, unclicked_item_ids=["c"])
    client.search("text", count=9, page_token="40")
    history = [recommendation_pb2.Watch(item_id="a")]
    assert gateway.requests[:3] == [
        recommendation_pb2.RecommendItemsRequest(
            history=history,
            item_count=7,
            excluded_item_ids=["b"],
            include_watched=True,
            require_ranked=True,
            request_timestamp_seconds=5,
            unclicked_item_ids=["c", "c"],
            candidate_item_ids=["f", "g"],
            caps=[
                recommendation_pb2.AttributeCap(attribute="genres", max_count=2),
                recommendation_pb2.AttributeCap(attribute="author", max_count=1),
            ],
            pinned_items=[recommendation_pb2.PinnedItem(item_id="p", position=3)],
            diversity=0.0,
        ),
        recommendation_pb2.RetrieveItemsRequest(
            history=history, item_count=8, excluded_item_ids=["b"], include_watched=True
        ),
        recommendation_pb2.RankItemsRequest(
            history=history, item_ids=["d", "e"], request_timestamp_seconds=5, unclicked_item_ids=["c"]
        ),
    ]
    assert gateway.requests[3] == catalogue_pb2.SearchItemsRequest(title_contains="text", page_size=9, page_token="40")


def test_what_is_not_said_is_not_sent(client: WinnowClient, gateway: FakeGateway) -> None:
    client.recommend([])
    client.rank([], ["x"])
    assert not any(request.HasField("request_timestamp_seconds") for request in gateway.requests)
    assert not gateway.requests[0].HasField("diversity")


@pytest.mark.parametrize("name", ["caps", "pinned_items"])
@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (["genres"], "is ['genres']: a mapping of "),
        ({1: 1}, "has the key 1: str is needed"),
        ({"genres": "2"}, "['genres'] is '2': a whole number is needed"),
        ({"genres": True}, "['genres'] is True: a whole number is needed"),
        ({"genres": 2**31}, "['genres'] is 2147483648: a whole number is needed"),
    ],
)
def test_names_are_mapped_to_whole_numbers(
    client: WinnowClient, gateway: FakeGateway, name: str, wrong: Any, text: str
) -> None:
    asked: dict[str, Any] = {name: wrong}
    with pytest.raises(TypeError) as refused:
        client.recommend([], **asked)
    assert str(refused.value).startswith(f"{name}{text}" if text.startswith("[") else f"{name} {text}")
    assert gateway.requests == []


@pytest.mark.parametrize("history", ["sku-1", None, 5])
def test_one_id_is_no_history(client: WinnowClient, gateway: FakeGateway, history: Any) -> None:
    for call in calls_with_a_history(client):
        with pytest.raises(
            TypeError, match=f"history is {history!r}: a list of item ids or of Watch objects is needed"
        ):
            call(history)
    assert gateway.requests == []


@pytest.mark.parametrize("name", ["excluded_item_ids", "unclicked_item_ids", "candidate_item_ids"])
def test_one_id_is_no_list_of_ids(client: WinnowClient, name: str) -> None:
    wrong: dict[str, Any] = {name: "sku-1"}
    with pytest.raises(TypeError, match=f"{name} is 'sku-1': a list of item ids is needed"):
        client.recommend([], **wrong)
    for call in (lambda ids: client.rank([], ids), client.items):
        with pytest.raises(TypeError, match="item_ids is 'sku-1': a list of item ids is needed"):
            call("sku-1")


@pytest.mark.parametrize(
    ("history", "message"),
    [
        (["a", 5], r"history\[1\] is of type int: an item id or a Watch is needed"),
        (["a", None], r"history\[1\] is of type NoneType: an item id or a Watch is needed"),
        ([("a", 5.0)], r"history\[0\] is of type tuple: an item id or a Watch is needed"),
        ([Watch(5)], r"history\[0\]\.item_id is of type int: str is needed"),  # type: ignore[arg-type]
    ],
)
def test_a_watch_of_a_wrong_type_is_named(client: WinnowClient, history: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        client.recommend(history)


def test_an_id_of_a_wrong_type_is_named(client: WinnowClient) -> None:
    with pytest.raises(TypeError, match=r"item_ids\[1\] is of type int: str is needed"):
        client.rank([], ["a", 5])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("time", "message"),
    [
        (datetime(2023, 11, 14), "without a time zone"),
        (float("nan"), "a finite number of seconds is needed"),
        (float("inf"), "a finite number of seconds is needed"),
    ],
)
def test_a_time_that_says_no_second_is_named(client: WinnowClient, time: float | datetime, message: str) -> None:
    with pytest.raises(ValueError, match=rf"history\[1\]\.time is .*{message}"):
        client.recommend(["a", Watch("b", time=time)])
    with pytest.raises(ValueError, match=f"request_time is .*{message}"):
        client.recommend([], request_time=time)


def test_a_count_that_no_answer_can_have_is_refused(client: WinnowClient, gateway: FakeGateway) -> None:
    """The gateway would take 0 for its default."""
    calls: list[tuple[Callable[..., object], int]] = [
        (lambda count: client.recommend([], count=count), 100),
        (lambda count: client.retrieve([], count=count), 1000),
        (lambda count: client.search("x", count=count), 100),
    ]
    for call, maximum in calls:
        for count in (-1, 0, maximum + 1):
            with pytest.raises(ValueError, match=f"count is {count}: it has to be from 1 to {maximum}"):
                call(count)
    assert gateway.requests == []
    for call, maximum in calls:
        call(1)
        call(maximum)
    assert [request.item_count for request in gateway.requests[:4]] == [1, 100, 1, 1000]


def test_maxima_and_defaults_are_the_gateways(client: WinnowClient) -> None:
    assert (request_messages.MAX_ITEMS, request_messages.MAX_CANDIDATES) == (
        gateway_requests.MAX_ITEMS,
        gateway_requests.MAX_CANDIDATES,
    )
    assert request_messages.MAX_PAGE_SIZE == gateway_requests.MAX_ITEMS
    assert request_messages.MAX_LOOKED_UP_ITEMS == gateway_settings.MAX_LOOKED_UP_ITEMS
    defaults: dict[Callable[..., object], int] = {
        client.recommend: gateway_requests.DEFAULT_ITEMS,
        client.retrieve: gateway_requests.DEFAULT_CANDIDATES,
        client.search: gateway_requests.DEFAULT_ITEMS,
    }
    for method, default in defaults.items():
        assert inspect.signature(method).parameters["count"].default == default


def test_a_filter_and_allowed_ids_are_sent(client: WinnowClient, gateway: FakeGateway) -> None:
    for call in (client.recommend, client.retrieve):
        call(["a"], filter="year >= 1990", allowed_item_ids=(f"sku-{number}" for number in range(2)))
        call(["a"])
    for restricted, plain in (gateway.requests[:2], gateway.requests[2:]):
        assert (restricted.filter, list(restricted.allowed_item_ids)) == ("year >= 1990", ["sku-0", "sku-1"])
        assert (plain.filter, list(plain.allowed_item_ids)) == ("", [])


def test_a_list_that_allows_nothing_is_refused_as_the_message_would_allow_all(client: WinnowClient) -> None:
    with pytest.raises(ValueError, match="allowed_item_ids is empty: no item could be returned; None allows all"):
        client.recommend(["a"], allowed_item_ids=[])
    wrong: Any = "sku-1"
    with pytest.raises(TypeError, match="allowed_item_ids is 'sku-1': a list of item ids is needed"):
        client.retrieve(["a"], allowed_item_ids=wrong)
    wrong = None
    with pytest.raises(TypeError, match="filter is of type NoneType: str is needed"):
        client.recommend(["a"], filter=wrong)
