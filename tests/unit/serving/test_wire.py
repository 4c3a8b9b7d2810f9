import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from winnow.contexts import RequestContexts
from winnow.history import UNKNOWN_TIME, RaggedRows
from winnow.serving.wire import (
    pack_float32,
    pack_rows,
    pack_times,
    unpack_contexts,
    unpack_float32,
    unpack_int32,
    unpack_rows,
)
from winnow.v1 import packed_pb2


@given(st.lists(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=5), max_size=5))
def test_rows_survive_the_wire(lists: list[list[int]]) -> None:
    message = packed_pb2.PackedRows.FromString(pack_rows(RaggedRows.from_lists(lists)).SerializeToString())
    found = unpack_rows(message, "histories")
    assert [found[position].tolist() for position in range(len(found))] == lists


def test_bytes_are_little_endian() -> None:
    assert pack_rows(RaggedRows.from_lists([[1]])).rows == b"\x01\x00\x00\x00"
    assert unpack_int32(b"\x00\x01\x00\x00", "rows").tolist() == [256]
    assert unpack_float32(pack_float32(np.array([1.5])), "scores").tolist() == [1.5]


@given(rows=st.binary(max_size=40), lengths=st.binary(max_size=40))
def test_any_bytes_are_rows_or_a_value_error_that_names_the_field(rows: bytes, lengths: bytes) -> None:
    try:
        found = unpack_rows(packed_pb2.PackedRows(rows=rows, lengths=lengths), "histories")
    except ValueError as error:
        assert str(error).startswith("histories")
    else:
        assert int(found.lengths.sum()) * 4 == len(rows)


def test_a_huge_length_allocates_nothing() -> None:
    lengths = np.array([2**31 - 1], dtype="<i4").tobytes()
    with pytest.raises(ValueError, match="histories: lengths sum to 2147483647, but there are 0 rows"):
        unpack_rows(packed_pb2.PackedRows(rows=b"", lengths=lengths), "histories")


def test_contexts_survive_the_wire_and_have_to_fit_the_queries() -> None:
    contexts = RequestContexts(np.array([UNKNOWN_TIME, 7]), RaggedRows.from_lists([[], [3, 3, 1]]))
    sent = pack_times(contexts), pack_rows(contexts.unclicked)
    found = unpack_contexts(*sent, 2)
    assert found is not None
    assert found.times.tolist() == contexts.times.tolist()
    assert [found.unclicked[query].tolist() for query in range(2)] == [[], [3, 3, 1]]
    assert unpack_contexts(b"", packed_pb2.PackedRows(), 2) is None
    with pytest.raises(ValueError, match="request_times has 2 entries for 3 queries"):
        unpack_contexts(*sent, 3)
    with pytest.raises(ValueError, match="unclicked has 0 entries for 2 queries"):
        unpack_contexts(sent[0], packed_pb2.PackedRows(), 2)
    with pytest.raises(ValueError, match="request_times has 7 bytes"):
        unpack_contexts(sent[0][:7], sent[1], 2)
