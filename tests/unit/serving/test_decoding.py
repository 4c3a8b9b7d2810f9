import pytest
from hypothesis import given
from hypothesis import strategies as st

from winnow.serving.decoding import find_invalid_utf8
from winnow.v1.recommendation_pb2 import RecommendItemsRequest

DESCRIPTOR = RecommendItemsRequest.DESCRIPTOR
HISTORY, COUNT, EXCLUDED = 1, 2, 3
ITEM_ID, WEIGHT = 1, 2


def string_field(number: int, value: bytes) -> bytes:
    """A field of text, or of another message."""
    return bytes([number << 3 | 2, len(value)]) + value


def test_the_field_and_position_are_named() -> None:
    excluded = string_field(EXCLUDED, b"ok") + bytes([COUNT << 3, 5]) + string_field(EXCLUDED, b"\xc3")
    assert find_invalid_utf8(DESCRIPTOR, excluded) == "excluded_item_ids[1]"


def test_the_path_leads_into_messages() -> None:
    weight = bytes([WEIGHT << 3 | 5]) + b"\xff\xff\xff\xff"
    watches = [string_field(ITEM_ID, b"ok"), weight + string_field(ITEM_ID, b"\xff")]
    data = b"".join(string_field(HISTORY, watch) for watch in watches)
    assert find_invalid_utf8(DESCRIPTOR, data) == "history[1].item_id"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        string_field(EXCLUDED, b"ok"),
        string_field(HISTORY, string_field(ITEM_ID, b"ok")),
        string_field(HISTORY, b"\xff"),
        b"\x0a",
        b"\x0a\x05ab",
        b"\xff" * 20,
        b"\x0b",
    ],
)
def test_other_damage_is_not_taken_for_it(data: bytes) -> None:
    assert find_invalid_utf8(DESCRIPTOR, data) is None


@given(st.binary(max_size=64))
def test_no_bytes_make_it_fail(data: bytes) -> None:
    find_invalid_utf8(DESCRIPTOR, data)
