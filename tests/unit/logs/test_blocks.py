from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from winnow.history import RaggedRows, WatchHistories
from winnow.logs.blocks import blocks_of_lengths, count_rows, slices
from winnow.logs.disk_arrays import DiskArray, give_back
from winnow.logs.part_histories import taken
from winnow.logs.rollback import sample_examples

lengths_of_lists = st.lists(st.integers(0, 6), min_size=1, max_size=20).map(lambda found: np.array(found, np.int64))


def numbered(lengths: np.ndarray) -> WatchHistories:
    count = int(lengths.sum())
    numbers = np.arange(count)
    return WatchHistories.from_lengths(numbers.astype(np.int32), lengths, numbers.astype(np.float32), numbers * 10)


@given(lengths=lengths_of_lists, watches_per_block=st.integers(1, 10))
def test_blocks_hold_whole_lists_and_are_no_larger_than_they_may_be(
    lengths: np.ndarray, watches_per_block: int
) -> None:
    found = list(blocks_of_lengths(lengths, watches_per_block))
    assert [first for first, _ in found] == [0, *(last for _, last in found[:-1])]
    assert found[-1][1] == len(lengths)
    assert all(last - first == 1 or lengths[first:last].sum() <= watches_per_block for first, last in found)


@given(lengths=lengths_of_lists, data=st.data(), watches_per_block=st.integers(1, 10))
def test_what_is_taken_is_the_same_on_disk(lengths: np.ndarray, data: st.DataObject, watches_per_block: int) -> None:
    histories = numbered(lengths)
    chosen = np.array(data.draw(st.permutations(range(len(lengths)))))
    begins, kept = histories.offsets[chosen], lengths[chosen]
    found = taken(histories, begins, kept, watches_per_block=watches_per_block)
    give_back(found.rows, found.weights, found.timestamps)
    expected = histories.take(begins, kept)
    for name in ("rows", "offsets", "weights", "timestamps"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        assert getattr(found, name).dtype == getattr(expected, name).dtype


@given(lengths=lengths_of_lists, data=st.data(), watches_per_block=st.integers(1, 10))
def test_examples_drawn_in_blocks_are_the_same(
    lengths: np.ndarray, data: st.DataObject, watches_per_block: int
) -> None:
    count = int(lengths.sum())
    eligible = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)), dtype=np.bool_)
    drawn = [
        sample_examples(numbered(lengths), eligible, 2, np.random.default_rng(7), watches_per_block=size)
        for size in (watches_per_block, count + 1)
    ]
    np.testing.assert_array_equal(drawn[0], drawn[1])


def test_an_array_on_disk_is_what_was_appended() -> None:
    array = DiskArray(np.int32)
    array.append(np.array([1, 2], dtype=np.int64))
    array.append(np.empty(0, dtype=np.int32))
    array.append(np.array([3], dtype=np.int32))
    mapped = array.mapped()
    assert mapped.dtype == np.int32
    assert mapped.tolist() == [1, 2, 3]
    give_back(mapped)
    assert mapped.tolist() == [1, 2, 3]
    assert DiskArray(np.float32).mapped().tolist() == []


def test_memory_of_a_mapped_array_is_given_back() -> None:
    array = DiskArray(np.int64)
    array.append(np.arange(4_000_000))
    mapped = array.mapped()
    total = mapped.sum()
    resident = resident_file_kilobytes()
    give_back(mapped, np.arange(3))
    assert resident_file_kilobytes() < resident - 30_000
    assert mapped.sum() == total


def resident_file_kilobytes() -> int:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["RssFile"].split()[0])


def test_rows_are_counted_and_arrays_are_cut_in_blocks() -> None:
    assert list(slices(5, 2)) == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert list(slices(0, 2)) == []
    rows = RaggedRows.from_lists([[0, 2], [2]]).rows
    assert count_rows(rows, 4).tolist() == [1, 0, 2, 0]
    assert count_rows(rows[:0], 2).tolist() == [0, 0]
