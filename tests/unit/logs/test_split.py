import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from winnow.history import WatchHistories
from winnow.logs.split import TARGETS_PER_USER, HeldOut, LogSplit, means_of_users

history_lengths = st.lists(st.integers(0, 12), min_size=1, max_size=6)


def numbered(lengths: list[int], timestamps: np.ndarray | None = None) -> WatchHistories:
    """Every row is used once in all histories together, and is the weight and, unless given, the timestamp too."""
    rows = np.arange(sum(lengths), dtype=np.int32)
    times = rows.astype(np.int64) if timestamps is None else timestamps
    return WatchHistories.from_lengths(rows, np.array(lengths), rows.astype(np.float32), times)


@settings(deadline=None)
@given(lengths=history_lengths)
def test_the_last_watches_of_a_user_are_in_no_history_before_them(lengths: list[int]) -> None:
    histories = numbered(lengths)
    split = LogSplit.leave_last_out(histories)
    enough = [user for user, length in enumerate(lengths) if length >= 3]
    for held_out, position_from_end in ((split.validation, 2), (split.test, 1)):
        assert len(held_out) == len(enough)
        for number, user in enumerate(enough):
            assert held_out.targets[number] == histories[user][-position_from_end]
            np.testing.assert_array_equal(held_out.histories[number], histories[user][:-position_from_end])
    for user, length in enumerate(lengths):
        np.testing.assert_array_equal(split.training[user], histories[user][:-2] if length >= 3 else histories[user])
    for part in (split.training, split.validation.histories, split.test.histories):
        assert isinstance(part, WatchHistories)
        np.testing.assert_array_equal(part.weights, part.rows)
        np.testing.assert_array_equal(part.timestamps, part.rows)


@settings(deadline=None)
@given(data=st.data(), lengths=st.lists(st.integers(0, 25), min_size=1, max_size=6).filter(lambda all_: sum(all_) > 0))
def test_nothing_that_is_trained_on_was_watched_after_a_held_out_watch(data: st.DataObject, lengths: list[int]) -> None:
    times = [sorted(data.draw(st.lists(st.integers(0, 40), min_size=length, max_size=length))) for length in lengths]
    histories = numbered(lengths, np.array([time for of_user in times for time in of_user], dtype=np.int64))
    split = LogSplit.by_time(histories)
    validation_start, test_start = np.sort(histories.timestamps)[
        np.round((len(histories.rows) - 1) * np.array([0.8, 0.9])).astype(int)
    ]
    trained = [
        list(histories[user][histories.timestamps[histories[user]] < validation_start]) for user in range(len(lengths))
    ]
    assert [list(split.training[user]) for user in range(len(split.training))] == [rows for rows in trained if rows]
    windows = {
        "validation": (split.validation, validation_start, test_start),
        "test": (split.test, test_start, 41),
    }
    for held_out, begin, end in windows.values():
        for number, (target, user) in enumerate(zip(held_out.targets.tolist(), held_out.users.tolist(), strict=True)):
            assert begin <= histories.timestamps[target] < end
            rows = histories[user]
            np.testing.assert_array_equal(held_out.histories[number], rows[rows < target])
            assert len(held_out.histories[number]) > 0
        for user, length in enumerate(lengths):
            rows = histories[user][1:]
            in_window = ((histories.timestamps[rows] >= begin) & (histories.timestamps[rows] < end)).sum()
            drawn = held_out.targets[held_out.users == user]
            assert len(set(drawn.tolist())) == len(drawn) == (min(in_window, TARGETS_PER_USER) if length else 0)


def test_means_are_of_each_user() -> None:
    means = means_of_users(np.array([1.0, 5.0, 2.0, 6.0]), np.array([4, 9, 4, 4]))
    assert means.tolist() == [3.0, 5.0]


def test_a_slice_keeps_what_belongs_together() -> None:
    held_out = LogSplit.leave_last_out(numbered([3, 1, 5, 4])).test
    part = held_out.slice(1, 3)
    assert isinstance(part, HeldOut)
    assert part.targets.tolist() == [8, 12]
    assert part.users.tolist() == [2, 3]
    assert part.histories[0].tolist() == [4, 5, 6, 7]
