import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings import GatewaySettings
from winnow.serving.decoding import SEARCHED_FIELDS, find_invalid_utf8, has_more_framing
from winnow.v1.catalogue_pb2 import BatchGetItemsResponse, Item
from winnow.v1.recommendation_pb2 import RecommendItemsRequest, RecommendItemsResponse, Watch

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
    request = RecommendItemsRequest(history=[Watch(item_id="fine", weight=1), Watch(weight=2, item_id="not ?")])
    assert find_invalid_utf8(DESCRIPTOR, spoiled(request)) == "history[1].item_id"


def test_other_bytes_that_are_not_utf8_are_no_reason() -> None:
    answer = BatchGetItemsResponse(items=[Item(item_id="fine", attributes={"?": "?"})])
    assert find_invalid_utf8(BatchGetItemsResponse.DESCRIPTOR, spoiled(answer)) is None


BROKEN = [b"", b"\x0a", b"\x0a\x05ab", b"\xff" * 20, b"\x0b", b"\x0f", b"\x0a\x03\x0a\x7fa"]


@pytest.mark.parametrize("data", BROKEN)
def test_other_damage_is_not_taken_for_it(data: bytes) -> None:
    assert find_invalid_utf8(DESCRIPTOR, data) is None


@pytest.mark.parametrize(
    ("request_", "framing_bytes"),
    [
        (RecommendItemsRequest(item_count=5), 2),
        (RecommendItemsRequest(excluded_item_ids=["", "a", "b" * 127]), 6),
        (RecommendItemsRequest(excluded_item_ids=["b" * 128]), 3),
        (RecommendItemsRequest(history=[Watch()] * 3), 6),
        (RecommendItemsRequest(history=[Watch(item_id="abc")], item_count=5), 6),
        (RecommendItemsRequest(history=[Watch(item_id="b" * 400, weight=1, timestamp_seconds=-1)] * 2), 44),
    ],
)
def test_tags_lengths_and_numbers_are_counted(request_: RecommendItemsRequest, framing_bytes: int) -> None:
    data = request_.SerializeToString()
    assert not has_more_framing(DESCRIPTOR, data, framing_bytes)
    assert has_more_framing(DESCRIPTOR, data, framing_bytes - 1)


def test_a_request_with_the_most_of_everything_is_taken() -> None:
    settings = GatewaySettings()
    ids = ["x" * 512]
    request = RecommendItemsRequest(
        history=[Watch(item_id="x" * 512, weight=1, timestamp_seconds=-1)] * settings.max_history_items,
        unclicked_item_ids=ids * settings.max_history_items,
        excluded_item_ids=ids * settings.max_excluded_items,
        allowed_item_ids=ids * settings.max_allowed_items,
        filter="x" * 2000,
        item_count=100,
        include_watched=True,
        require_ranked=True,
        request_timestamp_seconds=-1,
    )
    assert not has_more_framing(DESCRIPTOR, request.SerializeToString(), settings.max_framing_bytes)


class CountedBytes(bytes):
    """Says how often it was looked at."""

    looks = 0

    def __getitem__(self, key):  # type: ignore[no-untyped-def]
        self.looks += 1
        return super().__getitem__(key)


@pytest.mark.parametrize(
    "tiny",
    [b"\x0a\x00", b"\x0a\x02\x10\x01", b"\x1a\x00", b"\x78\x01", b"\x7b", b"\x0d\x01\x02\x03\x04", b"\x78\xff\x01"],
)
def test_the_time_does_not_grow_with_the_message(tiny: bytes) -> None:
    """What is wrong behind 100,000 tiny fields is not looked for."""
    data = CountedBytes(tiny * 100_000 + b"\x1a\x01\xff")
    assert has_more_framing(DESCRIPTOR, data, 1000)
    assert data.looks <= 2 * 1000
    data.looks = 0
    assert find_invalid_utf8(DESCRIPTOR, data) is None
    assert data.looks <= 4 * SEARCHED_FIELDS


@given(st.binary(max_size=64))
def test_no_bytes_make_it_fail(data: bytes) -> None:
    find_invalid_utf8(DESCRIPTOR, data)
    has_more_framing(DESCRIPTOR, data, 10)


@given(
    st.lists(
        st.builds(Watch, item_id=st.text(), weight=st.floats(width=32), timestamp_seconds=st.integers(-9, 2**63 - 1))
    ),
    st.lists(st.text()),
)
def test_valid_messages_are_taken(history: list[Watch], excluded: list[str]) -> None:
    data = RecommendItemsRequest(history=history, excluded_item_ids=excluded).SerializeToString()
    assert find_invalid_utf8(DESCRIPTOR, data) is None
    assert not has_more_framing(DESCRIPTOR, data, len(data))
