"""The gateway's edge: every request gets an answer or one clear error that names the field."""

from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.releases import ITEM_COUNT, item_id
from winnow.client import CandidateSource, Item, ScoreType, WinnowClient, WinnowError
from winnow.rpc.violations import Violation, violations_of
from winnow.v1 import catalogue_pb2, catalogue_pb2_grpc, recommendation_pb2, recommendation_pb2_grpc
from winnow.v1.recommendation_pb2 import Watch

FOURTH = {
    "year": "1994",
    "genres": "Comedy, Science Fiction",
    "country": "FR",
    "added": "2020-01-05T00:00:00Z",
    "adult": "true",
}
RECOMMEND = "/winnow.v1.RecommendationService/RecommendItems"


def watches(item_ids: Sequence[str]) -> list[Watch]:
    return [Watch(item_id=item_id) for item_id in item_ids]


def violations(channel: grpc.Channel, **fields: Any) -> list[Violation]:
    """What the gateway says of a RecommendItems request that it refuses."""
    stub = recommendation_pb2_grpc.RecommendationServiceStub(channel)
    with pytest.raises(grpc.RpcError) as failure:
        stub.RecommendItems(recommendation_pb2.RecommendItemsRequest(**fields), timeout=5)
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    return violations_of(failure.value)


@pytest.mark.parametrize(
    ("fields", "field", "description"),
    [
        ({"history": watches(["x"] * 1001)}, "history", "has 1001 watches: at most 1000"),
        ({"candidate_item_ids": ["x"] * 1001}, "candidate_item_ids", "has 1001 ids: at most 1000"),
        ({"history": watches(["x", ""])}, "history[1].item_id", "is empty"),
        ({"history": watches(["x", "y" * 513])}, "history[1].item_id", "is 513 bytes long: at most 512"),
        ({"history": watches(["é" * 257])}, "history[0].item_id", "is 514 bytes long: at most 512"),
        ({"item_count": -1}, "item_count", "is -1: it has to be from 0 (the default, 20) to 100"),
        ({"item_count": 5_000}, "item_count", "is 5000: it has to be from 0 (the default, 20) to 100"),
        ({"excluded_item_ids": ["x"] * 1001}, "excluded_item_ids", "has 1001 ids: at most 1000"),
    ],
)
def test_the_field_is_named(channel: grpc.Channel, fields: dict[str, Any], field: str, description: str) -> None:
    assert violations(channel, **fields) == [Violation(field, description)]


def test_all_violations_are_named_up_to_twenty(channel: grpc.Channel) -> None:
    found = violations(channel, history=watches([""] * 30))
    assert [violation.field for violation in found] == [f"history[{n}].item_id" for n in range(20)]


def test_fields_that_are_wrong_are_named_together(channel: grpc.Channel) -> None:
    found = violations(channel, history=watches([""]), item_count=-1, excluded_item_ids=["x", ""])
    assert {violation.field for violation in found} == {"history[0].item_id", "item_count", "excluded_item_ids[1]"}


def recommend_raw(channel: grpc.Channel, data: bytes) -> bytes:
    method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(RECOMMEND)
    return method(data, timeout=5)


def test_an_id_that_is_not_utf8_is_named(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        recommend_raw(channel, b"\x0a\x04\x0a\x02ok\x0a\x04\x0a\x02\xff\xfe")
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.value.details() == "history[1].item_id: is not valid UTF-8"


def test_a_broken_message_is_an_invalid_argument(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        recommend_raw(channel, b"\x0a\xff")
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.value.details() == "request: is not a valid message of this method"


# A watch whose weight is not a number.
BAD_WATCH = b"\x0a\x05\x15\x00\x00\xc0\x7f"


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_a_request_with_half_a_million_violations_is_not_parsed(
    channel: grpc.Channel, compression: grpc.Compression
) -> None:
    method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(RECOMMEND)
    with pytest.raises(grpc.RpcError) as failure:
        method(BAD_WATCH * 500_000, timeout=5, compression=compression)
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.value.details() == "request: has more fields than any request needs"


def test_a_small_request_that_is_large_once_it_is_inflated_is_rejected(channel: grpc.Channel) -> None:
    """28 MB of violations are some kilobytes on the wire."""
    method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(RECOMMEND)
    with pytest.raises(grpc.RpcError) as failure:
        method(BAD_WATCH * 4_000_000, timeout=5, compression=grpc.Compression.Gzip)
    assert failure.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_ranking_nothing_is_refused(client: WinnowClient) -> None:
    with pytest.raises(WinnowError, match="item_ids: is empty"):
        client.rank(["item-0"], [])


def test_an_empty_history_gets_popular_items_ranked(client: WinnowClient) -> None:
    answer = client.recommend([], count=5)
    assert answer.candidate_source is CandidateSource.POPULAR
    assert answer.score_type is ScoreType.WATCH_PROBABILITY
    assert not answer.degraded
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


def test_counts_default_and_maximum(channel: grpc.Channel) -> None:
    stub, history = recommendation_pb2_grpc.RecommendationServiceStub(channel), watches([item_id(3)])

    def recommended(item_count: int) -> int:
        request = recommendation_pb2.RecommendItemsRequest(history=history, item_count=item_count)
        return len(stub.RecommendItems(request, timeout=5).items)

    def retrieved(item_count: int) -> int:
        request = recommendation_pb2.RetrieveItemsRequest(history=history, item_count=item_count)
        return len(stub.RetrieveItems(request, timeout=5).items)

    assert (recommended(0), recommended(100)) == (20, 100)
    assert (retrieved(0), retrieved(1_000)) == (200, ITEM_COUNT - 1)
    with pytest.raises(grpc.RpcError) as failure:
        retrieved(1_001)
    assert violations_of(failure.value) == [
        Violation("item_count", "is 1001: it has to be from 0 (the default, 200) to 1000")
    ]


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


def test_items_are_found_by_id(client: WinnowClient) -> None:
    found = client.items(["nor this", item_id(4), "no such item", item_id(0)])
    assert list(found.by_id) == [item_id(4), item_id(0)]
    assert found.by_id[item_id(4)] == Item(item_id=item_id(4), title="Title 4", attributes=FOURTH)
    assert found.unknown_item_ids == ("nor this", "no such item")
    assert found.release_ids == (client.recommend([]).release_id,)


def test_items_are_found_by_title_page_by_page(client: WinnowClient) -> None:
    first = client.search("TITLE 29", count=3)
    assert [item.title for item in first.items] == ["Title 29", "Title 290", "Title 291"]
    rest = client.search("TITLE 29", page_token=first.next_page_token)
    assert [item.title for item in rest.items] == [f"Title {row}" for row in range(292, 300)]
    assert rest.next_page_token is None
    pages = list(client.search_pages("title"))
    assert [len(page.items) for page in pages] == [100, 100, 100]
    assert [item.title for page in pages for item in page.items] == [f"Title {row}" for row in range(ITEM_COUNT)]
    assert client.search("no such title").items == ()


def test_page_size_has_a_default_and_a_maximum(channel: grpc.Channel) -> None:
    stub = catalogue_pb2_grpc.CatalogueServiceStub(channel)

    def found(page_size: int) -> int:
        request = catalogue_pb2.SearchItemsRequest(title_contains="title", page_size=page_size)
        return len(stub.SearchItems(request, timeout=5).items)

    assert (found(0), found(10_000)) == (20, 100)


@pytest.mark.parametrize(
    ("fields", "field", "description"),
    [
        ({"title_contains": ""}, "title_contains", "has to be 1 to 512 bytes long"),
        ({"title_contains": "x" * 513}, "title_contains", "has to be 1 to 512 bytes long"),
        ({"title_contains": "x", "page_size": -1}, "page_size", "is -1: it cannot be negative"),
        ({"title_contains": "x", "page_token": "x:3"}, "page_token", "search again"),
    ],
)
def test_the_field_of_a_search_is_named(
    channel: grpc.Channel, fields: dict[str, Any], field: str, description: str
) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        catalogue_pb2_grpc.CatalogueServiceStub(channel).SearchItems(
            catalogue_pb2.SearchItemsRequest(**fields), timeout=5
        )
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    (violation,) = violations_of(failure.value)
    assert violation.field == field
    assert description in violation.description


def test_a_look_up_of_too_many_ids_is_refused(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        catalogue_pb2_grpc.CatalogueServiceStub(channel).BatchGetItems(
            catalogue_pb2.BatchGetItemsRequest(item_ids=["x"] * 1001), timeout=5
        )
    assert violations_of(failure.value) == [Violation("item_ids", "has 1001 ids: at most 1000")]


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
    item_count=st.one_of(st.integers(-3, 150), int32),
    include_watched=st.booleans(),
)
def test_every_request_gets_a_valid_answer_or_an_invalid_argument(
    channel: grpc.Channel, history: list[str], excluded: list[str], item_count: int, include_watched: bool
) -> None:
    stub = recommendation_pb2_grpc.RecommendationServiceStub(channel)
    request = recommendation_pb2.RecommendItemsRequest(
        history=watches(history), excluded_item_ids=excluded, item_count=item_count, include_watched=include_watched
    )
    try:
        response = stub.RecommendItems(request, timeout=5)
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        invalid_id = any(not text or len(text.encode()) > 512 for text in [*history, *excluded])
        assert not 0 <= item_count <= 100 or invalid_id
        return
    found = [item.item_id for item in response.items]
    scores = [item.score for item in response.items]
    forbidden = {*excluded} if include_watched else {*excluded, *history}
    assert len(found) == len(set(found)) == (item_count or 20)
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
