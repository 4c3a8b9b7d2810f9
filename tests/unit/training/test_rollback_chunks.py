import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from winnow.history import RaggedRows, WatchHistories
from winnow.logs.rollback import sample_examples, visible_before
from winnow.logs.split import held_back
from winnow.training.rollback_chunks import RollbackChunks, example_ages

# Every row is used once in all histories together, so that a row says which event it is.
history_lengths = st.lists(st.integers(0, 12), min_size=1, max_size=6)


def numbered(lengths: list[int]) -> RaggedRows:
    return RaggedRows.from_lengths(np.arange(sum(lengths), dtype=np.int32), np.array(lengths, dtype=np.int64))


@settings(deadline=None)
@given(lengths=history_lengths, chunk_length=st.integers(1, 7), history_length=st.integers(1, 9))
def test_only_earlier_events_of_the_same_user_are_visible(
    lengths: list[int], chunk_length: int, history_length: int
) -> None:
    histories = numbered(lengths)
    chunks = RollbackChunks(histories, chunk_length=chunk_length, history_length=history_length)
    batch = chunks.batch(np.arange(len(chunks)))
    labels = []
    for chunk, target in np.argwhere(batch.labelled):
        user = int(batch.users[chunk])
        label = batch.rows[chunk, history_length + target]
        labels.append(int(label))
        # What the network sees of the row of watches: the band before the target.
        band = slice(target, history_length + target)
        visible = batch.rows[chunk, band][batch.present[chunk, band]]
        before = histories[user][histories[user] < label]
        np.testing.assert_array_equal(visible, before[-history_length:])
        assert batch.history_lengths[chunk, target] == len(before)
        assert batch.targets[chunk, target] == label
    expected = [int(row) for user in range(len(lengths)) for row in histories[user][1:]]
    assert sorted(labels) == expected


@settings(deadline=None)
@given(lengths=history_lengths, limit=st.none() | st.integers(1, 5))
def test_visible_before_is_a_prefix(lengths: list[int], limit: int | None) -> None:
    histories = numbered(lengths)
    users, positions = np.divmod(np.arange(13 * len(lengths)), 13)
    possible = positions <= histories.lengths[users]
    users, positions = users[possible], positions[possible]
    visible = visible_before(histories, users, positions, limit)
    for number, (user, position) in enumerate(zip(users, positions, strict=True)):
        expected = histories[int(user)][:position]
        np.testing.assert_array_equal(visible[number], expected if limit is None else expected[-limit:])


@settings(deadline=None)
@given(lengths=history_lengths, examples_per_user=st.integers(1, 6), seed=st.integers(0, 3))
def test_a_sample_takes_no_watch_twice_and_no_first_one(lengths: list[int], examples_per_user: int, seed: int) -> None:
    histories, rng = numbered(lengths), np.random.default_rng(seed)
    eligible = rng.random(len(histories.rows)) < 0.7
    users, positions = sample_examples(histories, eligible, examples_per_user, rng)
    assert len(set(zip(users.tolist(), positions.tolist(), strict=True))) == len(users)
    assert eligible[histories.offsets[users] + positions].all()
    for user, length in enumerate(lengths):
        chosen = positions[users == user]
        possible = eligible[histories.offsets[user] + 1 : histories.offsets[user + 1]]
        assert len(chosen) == min(examples_per_user, possible.sum())
        assert all(0 < position < length for position in chosen)


def test_what_is_held_back_is_seen_and_not_predicted() -> None:
    histories = numbered([9, 5])
    targets = ~held_back(len(histories.rows), 0.4, seed=1)
    chunks = RollbackChunks(histories, chunk_length=3, history_length=2, targets=targets)
    batch = chunks.batch(np.arange(len(chunks)))
    predicted = batch.rows[:, 2:][batch.labelled]
    with_history = ~np.isin(np.arange(14), histories.offsets)
    np.testing.assert_array_equal(np.sort(predicted), np.flatnonzero(targets & with_history))
    assert 0 < len(predicted) < 11
    assert set(np.flatnonzero(~targets)) <= set(batch.rows[batch.present].tolist())


@given(
    lists=st.lists(st.lists(st.integers(0, 5), max_size=9), min_size=1, max_size=5),
    chunk_length=st.integers(1, 4),
    seed=st.integers(0, 9),
)
def test_what_was_watched_before_each_example(lists: list[list[int]], chunk_length: int, seed: int) -> None:
    histories = RaggedRows.from_lists(lists)
    rng = np.random.default_rng(seed)
    chunks = RollbackChunks(
        histories, chunk_length=chunk_length, history_length=2, targets=rng.random(len(histories.rows)) < 0.7
    )
    batch = chunks.batch(rng.permutation(len(chunks)))
    found = chunks.watched_before(batch)
    expected = [
        set(lists[user][:position])
        for user, positions, labelled in zip(batch.users, batch.history_lengths, batch.labelled, strict=True)
        for position in positions[labelled]
    ]
    assert [sorted(found[example].tolist()) for example in range(len(found))] == [sorted(one) for one in expected]


def watched_at(timestamps: list[int]) -> WatchHistories:
    rows = np.zeros(len(timestamps), dtype=np.int32)
    return WatchHistories.from_lengths(rows, np.array([len(rows)]), None, np.array(timestamps, dtype=np.int64))


def test_ages_are_shares_of_the_time_span() -> None:
    np.testing.assert_allclose(example_ages(watched_at([100, 300, 200, 140])), [1.0, 0.0, 0.5, 0.8])


def test_a_span_of_one_moment_has_no_age() -> None:
    assert example_ages(watched_at([7, 7])).tolist() == [0.0, 0.0]
    assert len(example_ages(watched_at([]))) == 0
