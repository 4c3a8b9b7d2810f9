"""The gateway's edge: every request gets an answer or one clear error that names the field."""

from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.releases import ITEM_COUNT, item_id
from winnow.client import WinnowClient, WinnowError
from winnow.serving.local_stack import LocalStack
from winnow.v1 import recommendation_pb2, recommendation_pb2_grpc

RECOMMEND = "/winnow.v1.RecommendationService/RecommendItems"


@pytest.fixture(scope="module")
def channel(stack: LocalStack) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(stack.gateway_target) as opened:
        yield opened


@pytest.fixture(scope="module")
def client(stack: LocalStack) -> Iterator[WinnowClient]:
    with WinnowClient(stack.gateway_target, timeout_seconds=5) as opened:
        yield opened


@pytest.mark.parametrize(
    ("request_fields", "field", "description"),
    [
        ({"history": ["x"] * 1001}, "history", "has 1001 ids: at most 1000"),
        ({"history": ["x", ""]}, "history[1]", "is empty"),
        ({"history": ["x", "y" * 513]}, "history[1]", "is 513 bytes long: at most 512"),
        ({"history": ["é" * 257]}, "history[0]", "is 514 bytes long: at most 512"),
        ({"count": -1}, "count", "is -1: it cannot be negative"),
        ({"excluded_item_ids": ["x"] * 1001}, "excluded_item_ids", "has 1001 ids: at most 1000"),
    ],
)
def test_the_field_is_named(
    client: WinnowClient, request_fields: dict[str, object], field: str, description: str
) -> None:
    with pytest.raises(WinnowError) as failure:
        client.recommend(**({"history": []} | request_fields))  # type: ignore[arg-type]
    assert failure.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.value.violations == [(field, description)]


def test_all_violations_are_named_up_to_twenty(client: WinnowClient) -> None:
    with pytest.raises(WinnowError) as failure:
        client.recommend([""] * 30, count=-1)
    assert [violation.field for violation in failure.value.violations] == [f"history[{n}]" for n in range(20)]


def recommend_raw(channel: grpc.Channel, data: bytes) -> bytes:
    method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(RECOMMEND)
    return method(data, timeout=5)


def test_an_id_that_is_not_utf8_is_named(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        recommend_raw(channel, b"\x0a\x02ok\x0a\x02\xff\xfe")
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.value.details() == "history[1]: is not valid UTF-8"


def test_a_broken_message_is_an_invalid_argument(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        recommend_raw(channel, b"\x0a\xff")
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.value.details() == "request: is not a valid message of this method"


def test_ranking_nothing_is_refused(client: WinnowClient) -> None:
    with pytest.raises(WinnowError, match="item_ids: is empty"):
        client.rank(["item-0"], [])


def test_an_empty_history_gets_popular_items_ranked(client: WinnowClient) -> None:
    answer = client.recommend([], count=5)
    assert (answer.candidate_origin, answer.score_origin, answer.degradation) == ("POPULAR", "RANKING", None)
    assert len(answer.items) == 5


def test_unknown_ids_are_skipped_and_counted(client: WinnowClient) -> None:
    known = [item_id(3), item_id(8)]
    mixed = client.recommend(["no such item", known[0], "nor this", known[1]], excluded_item_ids=["nor that"])
    assert mixed.unknown_history_count == 2
    assert mixed.unknown_excluded_count == 1
    assert mixed.items == client.recommend(known).items


def test_all_unknown_behaves_as_empty(client: WinnowClient) -> None:
    unknown = client.recommend(["no such item"])
    assert unknown.unknown_history_count == 1
    assert unknown.items == client.recommend([]).items


def test_counts_default_and_maximum(client: WinnowClient) -> None:
    history = [item_id(3)]
    assert len(client.recommend(history, count=0).items) == 20
    assert len(client.recommend(history, count=10_000).items) == 100
    assert len(client.retrieve(history, count=0).items) == 200
    assert len(client.retrieve(history, count=10_000).items) == ITEM_COUNT - 1


def test_watched_and_excluded_items_stay_out(client: WinnowClient) -> None:
    history = [item_id(row) for row in range(40)]
    excluded = [item_id(row) for row in range(40, 80)]
    found = {item.item_id for item in client.recommend(history, count=100, excluded_item_ids=excluded).items}
    assert len(found) == 100
    assert not found & {*history, *excluded}
    everything = client.retrieve(history, count=1000, include_watched=True)
    assert len(everything.items) == ITEM_COUNT


def test_ranked_items_are_sorted_without_duplicates(client: WinnowClient) -> None:
    answer = client.rank([item_id(1)], [item_id(5), item_id(9), item_id(5), "no such item"])
    assert sorted(item.item_id for item in answer.items) == sorted([item_id(5), item_id(9)])
    assert answer.unknown_item_count == 1
    assert answer.items[0].score >= answer.items[1].score


def test_items_are_found_by_id_and_title(client: WinnowClient) -> None:
    found = client.items([item_id(1), "no such item"])
    assert found[item_id(1)].title == "Title 1"
    assert found[item_id(1)].attributes == {"year": "1995"}
    assert [item.title for item in client.search("TITLE 29", count=3)] == ["Title 29", "Title 290", "Title 291"]
    assert client.search("no such title") == []
    with pytest.raises(WinnowError, match="title_contains"):
        client.search("")


ids = st.one_of(
    st.integers(0, ITEM_COUNT - 1).map(item_id),
    st.text(st.characters(codec="utf-8"), max_size=6),
    st.sampled_from(["", "x" * 600, "\u0000", "é" * 200]),
)
int32 = st.integers(-(2**31), 2**31 - 1)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    history=st.lists(ids.filter(lambda text: text < "\ud800" or text > "\udfff"), max_size=30),
    excluded=st.lists(ids, max_size=30),
    count=st.one_of(st.integers(-3, 150), int32),
    include_watched=st.booleans(),
)
def test_every_request_gets_a_valid_answer_or_an_invalid_argument(
    channel: grpc.Channel, history: list[str], excluded: list[str], count: int, include_watched: bool
) -> None:
    stub = recommendation_pb2_grpc.RecommendationServiceStub(channel)
    request = recommendation_pb2.RecommendItemsRequest(
        history=history, excluded_item_ids=excluded, count=count, include_watched=include_watched
    )
    try:
        response = stub.RecommendItems(request, timeout=5)
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        invalid_id = any(not text or len(text.encode()) > 512 for text in [*history, *excluded])
        assert count < 0 or invalid_id
        return
    found = [item.item_id for item in response.items]
    scores = [item.score for item in response.items]
    forbidden = {*excluded} if include_watched else {*excluded, *history}
    assert len(found) == len(set(found)) == min(count or 20, 100)
    assert not set(found) & forbidden
    assert scores == sorted(scores, reverse=True)
    assert np.isfinite(scores).all()
    assert response.release_id


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=80))
def test_no_bytes_are_an_internal_error(channel: grpc.Channel, data: bytes) -> None:
    try:
        recommend_raw(channel, data)
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
