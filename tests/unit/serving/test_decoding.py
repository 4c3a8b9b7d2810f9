import pytest
from hypothesis import given
from hypothesis import strategies as st

from winnow.serving.decoding import find_invalid_utf8
from winnow.v1.recommendation_pb2 import RecommendItemsRequest

DESCRIPTOR = RecommendItemsRequest.DESCRIPTOR
HISTORY, COUNT, EXCLUDED = 1, 2, 3


def string_field(number: int, value: bytes) -> bytes:
    return bytes([number << 3 | 2, len(value)]) + value


def test_the_field_and_position_are_named() -> None:
    data = string_field(HISTORY, b"ok") + bytes([COUNT << 3, 5]) + string_field(HISTORY, b"\xff") + b""
    assert find_invalid_utf8(DESCRIPTOR, data) == "history[1]"
    assert find_invalid_utf8(DESCRIPTOR, string_field(EXCLUDED, b"\xc3")) == "excluded_item_ids[0]"


@pytest.mark.parametrize("data", [b"", string_field(HISTORY, b"ok"), b"\x0a", b"\x0a\x05ab", b"\xff" * 20, b"\x0b"])
def test_other_damage_is_not_taken_for_it(data: bytes) -> None:
    assert find_invalid_utf8(DESCRIPTOR, data) is None


@given(st.binary(max_size=64))
def test_no_bytes_make_it_fail(data: bytes) -> None:
    find_invalid_utf8(DESCRIPTOR, data)
