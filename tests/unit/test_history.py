from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from winnow.history import UNKNOWN_TIME, RaggedRows, WatchHistories

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


def numbered(lists: list[list[int]]) -> WatchHistories:
    """Weights and timestamps that say which watch they belong to."""
    rows = RaggedRows.from_lists(lists)
    numbers = np.arange(len(rows.rows))
    return WatchHistories.from_lengths(rows.rows, rows.lengths, numbers.astype(np.float32), numbers)


@given(lists_of_rows, st.integers(1, 9))
def test_weights_and_timestamps_stay_with_their_watch(lists: list[list[int]], limit: int) -> None:
    histories = numbered(lists)
    recent = histories.last(limit)
    expected = [histories.timestamps[start:stop][-limit:] for start, stop in pairwise(histories.offsets.tolist())]
    np.testing.assert_array_equal(recent.timestamps, np.concatenate([*expected, np.empty(0)]))
    np.testing.assert_array_equal(recent.weights, recent.timestamps)
    assert unpacked(recent) == [rows[-limit:] for rows in lists]


@given(st.lists(lists_of_rows, min_size=1, max_size=4))
def test_what_is_unknown_stays_unknown_in_a_batch(parts: list[list[list[int]]]) -> None:
    # Every other caller says nothing of its watches.
    histories = [numbered(part) if number % 2 else RaggedRows.from_lists(part) for number, part in enumerate(parts)]
    whole, start = WatchHistories.concatenate(histories), 0
    for number, part in enumerate(parts):
        found = whole.slice(start, start + len(part))
        start += len(part)
        assert unpacked(found) == part
        if number % 2:
            np.testing.assert_array_equal(found.timestamps, np.arange(len(found.rows)))
            np.testing.assert_array_equal(found.weights, np.arange(len(found.rows)))
        else:
            assert (found.timestamps == UNKNOWN_TIME).all()
            assert np.isnan(found.weights).all()
