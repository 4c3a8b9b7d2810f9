import pytest
from hypothesis import given
from hypothesis import strategies as st

from winnow.serving.decoding import find_invalid_utf8
from winnow.v1.catalogue_pb2 import BatchGetItemsResponse, Item
from winnow.v1.recommendation_pb2 import RecommendItemsRequest, RecommendItemsResponse

DESCRIPTOR = RecommendItemsRequest.DESCRIPTOR


def spoiled(message: RecommendItemsRequest | RecommendItemsResponse | BatchGetItemsResponse) -> bytes:
    """The message with a byte that is no UTF-8 in place of each `?`."""
    return message.SerializeToString().replace(b"?", b"\xff")


def test_the_field_and_its_position_are_named() -> None:
    request = RecommendItemsRequest(excluded_item_ids=["fine", "also fine", "not ?"])
    assert find_invalid_utf8(DESCRIPTOR, spoiled(request)) == "excluded_item_ids[2]"
    answer = RecommendItemsResponse(release_id="?")
    assert find_invalid_utf8(RecommendItemsResponse.DESCRIPTOR, spoiled(answer)) == "release_id"


def test_fields_within_fields_are_named() -> None:
    answer = RecommendItemsResponse()
    for item_id in ("fine", "not ?"):
        answer.items.add(item_id=item_id)
    assert find_invalid_utf8(RecommendItemsResponse.DESCRIPTOR, spoiled(answer)) == "items[1].item_id"


def test_other_bytes_that_are_not_utf8_are_no_reason() -> None:
    answer = BatchGetItemsResponse(items=[Item(item_id="fine", attributes={"?": "?"})])
    assert find_invalid_utf8(BatchGetItemsResponse.DESCRIPTOR, spoiled(answer)) is None


@pytest.mark.parametrize("data", [b"", b"\x0a", b"\x0a\x05ab", b"\xff" * 20, b"\x0b"])
def test_other_damage_is_not_taken_for_it(data: bytes) -> None:
    assert find_invalid_utf8(DESCRIPTOR, data) is None


@given(st.binary(max_size=64))
def test_no_bytes_make_it_fail(data: bytes) -> None:
    find_invalid_utf8(DESCRIPTOR, data)
