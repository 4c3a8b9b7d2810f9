import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from winnow.history import RaggedRows

lists_of_rows = st.lists(st.lists(st.integers(0, 99), max_size=8), max_size=8)


def unpacked(ragged: RaggedRows) -> list[list[int]]:
    return [ragged[position].tolist() for position in range(len(ragged))]


@given(lists_of_rows)
def test_packing_keeps_every_list(lists: list[list[int]]) -> None:
    assert unpacked(RaggedRows.from_lists(lists)) == lists


@given(lists_of_rows, st.integers(1, 9))
def test_last_keeps_the_most_recent_rows_of_each_list(lists: list[list[int]], limit: int) -> None:
    assert unpacked(RaggedRows.from_lists(lists).last(limit)) == [rows[-limit:] for rows in lists]


@given(st.lists(lists_of_rows, min_size=1, max_size=4))
def test_concatenate_then_slice_gives_the_parts_back(parts: list[list[list[int]]]) -> None:
    whole = RaggedRows.concatenate([RaggedRows.from_lists(part) for part in parts])
    start = 0
    for part in parts:
        assert unpacked(whole.slice(start, start + len(part))) == part
        start += len(part)


def test_a_row_outside_the_catalogue_is_named() -> None:
    with pytest.raises(ValueError, match=r"history\[1\]\[2\] is row 7: rows lie in \[0, 7\)"):
        RaggedRows.from_lists([[0], [1, 2, 7]]).check_rows(7, "history")
    with pytest.raises(ValueError, match=r"history\[2\]\[0\] is row -1"):
        RaggedRows.from_lists([[0], [], [-1]]).check_rows(7, "history")


def test_lengths_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="lengths sum to 3, but there are 2 rows"):
        RaggedRows.from_lengths(np.array([1, 2], dtype=np.int32), np.array([1, 2]))
    with pytest.raises(ValueError, match=r"lengths\[1\] is -1"):
        RaggedRows.from_lengths(np.array([1, 2], dtype=np.int32), np.array([3, -1]))
