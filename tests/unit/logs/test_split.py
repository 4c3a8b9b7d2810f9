import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from winnow.history import WatchHistories
from winnow.logs import split
from winnow.logs.input_table import InputFileError
from winnow.logs.split import TARGETS_PER_USER, LogSplit, checked

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
    found = LogSplit.leave_last_out(histories)
    enough = [user for user, length in enumerate(lengths) if length >= 3]
    for held_out, position_from_end in ((found.validation, 2), (found.test, 1)):
        assert len(held_out) == len(enough)
        for number, user in enumerate(enough):
            assert held_out.targets[number] == histories[user][-position_from_end]
            np.testing.assert_array_equal(held_out.histories[number], histories[user][:-position_from_end])
    for user, length in enumerate(lengths):
        np.testing.assert_array_equal(found.training[user], histories[user][:-2] if length >= 3 else histories[user])
    for part in (found.training, found.validation.histories, found.test.histories):
        assert isinstance(part, WatchHistories)
        np.testing.assert_array_equal(part.weights, part.rows)
        np.testing.assert_array_equal(part.timestamps, part.rows)


@settings(deadline=None)
@given(data=st.data(), lengths=st.lists(st.integers(0, 25), min_size=1, max_size=6).filter(lambda all_: sum(all_) > 0))
def test_nothing_that_is_trained_on_was_watched_after_a_held_out_watch(data: st.DataObject, lengths: list[int]) -> None:
    times = [sorted(data.draw(st.lists(st.integers(0, 40), min_size=length, max_size=length))) for length in lengths]
    histories = numbered(lengths, np.array([time for of_user in times for time in of_user], dtype=np.int64))
    found = LogSplit.by_time(histories)
    validation_start, test_start = np.sort(histories.timestamps)[
        np.round((len(histories.rows) - 1) * np.array([0.8, 0.9])).astype(int)
    ]
    trained = [
        list(histories[user][histories.timestamps[histories[user]] < validation_start]) for user in range(len(lengths))
    ]
    assert [list(found.training[user]) for user in range(len(found.training))] == [rows for rows in trained if rows]
    windows = {
        "validation": (found.validation, validation_start, test_start),
        "test": (found.test, test_start, 41),
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


def test_blocks_keep_what_belongs_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split, "WATCHES_PER_BLOCK", 2)
    first, second = LogSplit.leave_last_out(numbered([3, 1, 5, 4])).test.blocks()
    assert first.targets.tolist() == [2, 8]
    assert first.users.tolist() == [0, 2]
    assert first.histories[1].tolist() == [4, 5, 6, 7]
    assert second.targets.tolist() == [12]
    assert second.histories[0].tolist() == [9, 10, 11]


def test_training_watches_are_counted_by_item() -> None:
    histories = WatchHistories.from_lengths(np.array([2, 0, 2, 1, 1], dtype=np.int32), np.array([5]))
    assert LogSplit.leave_last_out(histories).watch_counts(4).tolist() == [1, 0, 2, 0]


@pytest.mark.parametrize(
    ("lengths", "missing"),
    [([2, 2, 1], "no user has one to hold out"), ([3, 1], "no user has two to train on"), ([1], "no user has two")],
)
def test_a_log_with_too_few_watches_is_refused(lengths: list[int], missing: str) -> None:
    with pytest.raises(InputFileError, match=rf"^log\.csv: too few watches: {missing}.*each user's last watch"):
        checked(LogSplit.leave_last_out(numbered(lengths)), "log.csv")


def test_a_log_of_one_moment_cannot_be_split_by_time() -> None:
    histories = numbered([5, 5], np.full(10, 7))
    with pytest.raises(InputFileError, match="too few watches"):
        checked(LogSplit.by_time(histories), "log.csv")


def test_the_smallest_log_that_can_be_split() -> None:
    found = LogSplit.leave_last_out(numbered([4]))
    assert checked(found, "log.csv") is found


@given(lengths=st.lists(st.integers(1, 9), min_size=6, max_size=30))
def test_of_many_users_some_are_held_out_and_the_others_are_trained_on(lengths: list[int]) -> None:
    histories = numbered(lengths)
    found = LogSplit.leave_last_out(histories, most_users=3)
    longer = {user for user, length in enumerate(lengths) if length > 2}
    held_out = set(found.validation.users.tolist())
    assert held_out == set(found.test.users.tolist())
    assert held_out <= longer
    assert len(held_out) == min(len(longer), 3)
    assert found.training.lengths.tolist() == [
        length - 2 if user in held_out else length for user, length in enumerate(lengths)
    ]
    assert ("of 3 of" in found.description) == (len(longer) > 3)


def test_of_many_users_of_a_window_some_are_predicted() -> None:
    histories = WatchHistories.from_lengths(
        np.arange(400, dtype=np.int32), np.full(20, 20), np.ones(400, np.float32), np.tile(np.arange(20), 20)
    )
    whole, some = LogSplit.by_time(histories), LogSplit.by_time(histories, most_users=5)
    np.testing.assert_array_equal(some.training.rows, whole.training.rows)
    for name, part in some.held_out.items():
        assert len(np.unique(part.users)) == 5
        kept = np.isin(whole.held_out[name].users, part.users)
        np.testing.assert_array_equal(part.targets, whole.held_out[name].targets[kept])
    assert "of 5 of 20 users, drawn at random" in some.description


def test_users_who_were_not_held_out_are_not_when_the_log_grows() -> None:
    """The current release has learned from their last watches, and would look better than it is."""
    before = LogSplit.leave_last_out(numbered([5] * 50), most_users=20).validation.users
    after = LogSplit.leave_last_out(numbered([7] * 80), most_users=20).validation.users
    assert set(after[after < 50].tolist()) < set(before.tolist())
