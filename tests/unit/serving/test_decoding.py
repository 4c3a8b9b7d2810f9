import pytest
from hypothesis import given
from hypothesis import strategies as st

from winnow.rpc.violations import Violation
from winnow.serving.decoding import find_violation
from winnow.v1.catalogue_pb2 import BatchGetItemsResponse, Item
from winnow.v1.recommendation_pb2 import RecommendItemsRequest, RecommendItemsResponse, Watch

DESCRIPTOR = RecommendItemsRequest.DESCRIPTOR
MANY = 1000


def spoiled(message: RecommendItemsRequest | RecommendItemsResponse | BatchGetItemsResponse) -> bytes:
    """The message with a byte that is no UTF-8 in place of each `?`."""
    return message.SerializeToString().replace(b"?", b"\xff")


def not_utf8(path: str) -> Violation:
    return Violation(path, "is not valid UTF-8")


def test_the_field_and_its_position_are_named() -> None:
    request = RecommendItemsRequest(excluded_item_ids=["fine", "also fine", "not ?"])
    assert find_violation(DESCRIPTOR, spoiled(request), MANY) == not_utf8("excluded_item_ids[2]")
    answer = RecommendItemsResponse(release_id="?")
    assert find_violation(RecommendItemsResponse.DESCRIPTOR, spoiled(answer), MANY) == not_utf8("release_id")


def test_fields_within_fields_are_named() -> None:
    request = RecommendItemsRequest(history=[Watch(item_id="fine", weight=1), Watch(weight=2, item_id="not ?")])
    assert find_violation(DESCRIPTOR, spoiled(request), MANY) == not_utf8("history[1].item_id")


def test_other_bytes_that_are_not_utf8_are_no_reason() -> None:
    answer = BatchGetItemsResponse(items=[Item(item_id="fine", attributes={"?": "?"})])
    assert find_violation(BatchGetItemsResponse.DESCRIPTOR, spoiled(answer), MANY) is None


@pytest.mark.parametrize("data", [b"", b"\x0a", b"\x0a\x05ab", b"\xff" * 20, b"\x0b", b"\x0f", b"\x0a\x03\x0a\x7fa"])
def test_other_damage_is_not_taken_for_it(data: bytes) -> None:
    assert find_violation(DESCRIPTOR, data, MANY) is None


WITH_NINE_FIELDS = RecommendItemsRequest(
    history=[Watch(item_id="a", weight=1, time_seconds=1), Watch(item_id="b")],
    excluded_item_ids=["c"],
    item_count=1,
    request_time_seconds=-1,
)


def test_more_fields_than_a_message_may_have_are_a_violation() -> None:
    data = WITH_NINE_FIELDS.SerializeToString()
    assert find_violation(DESCRIPTOR, data, 9) is None
    assert find_violation(DESCRIPTOR, data, 8) == Violation("request", "has more than 8 fields")


class CountedBytes(bytes):
    """Says how often it was looked at."""

    looks = 0

    def __getitem__(self, key):  # type: ignore[no-untyped-def]
        self.looks += 1
        return super().__getitem__(key)


@pytest.mark.parametrize("tiny", [b"\x0a\x00", b"\x1a\x00", b"\x78\x01", b"\x7b", b"\x0d\x01\x02\x03\x04"])
def test_the_time_does_not_grow_with_the_message(tiny: bytes) -> None:
    """Before the limit, what is wrong behind 100,000 tiny fields was found by looking at all of them."""
    data = CountedBytes(tiny * 100_000 + b"\x1a\x01\xff")
    assert find_violation(DESCRIPTOR, data, MANY) == Violation("request", f"has more than {MANY} fields")
    assert data.looks <= 4 * MANY


@given(st.binary(max_size=64))
def test_no_bytes_make_it_fail(data: bytes) -> None:
    find_violation(DESCRIPTOR, data, MANY)


@given(
    st.lists(st.builds(Watch, item_id=st.text(), weight=st.floats(width=32), time_seconds=st.integers(-9, 2**63 - 1))),
    st.lists(st.text()),
)
def test_valid_messages_have_no_violation(history: list[Watch], excluded: list[str]) -> None:
    request = RecommendItemsRequest(history=history, excluded_item_ids=excluded)
    assert find_violation(DESCRIPTOR, request.SerializeToString(), MANY) is None
