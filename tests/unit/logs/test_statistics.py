"""What a log is like, and above all whether its order says something."""

from dataclasses import replace

import numpy as np
import pytest

from tests.unit.training.planted import planted_histories, planted_successions
from winnow.history import WatchHistories
from winnow.logs.statistics import LogStatistics

ITEM_COUNT = 40


def reordered(histories: WatchHistories, keys: np.ndarray) -> WatchHistories:
    """Sort each history by keys, [N]."""
    users = np.repeat(np.arange(len(histories)), histories.lengths)
    order = np.lexsort((keys, users))
    return WatchHistories.from_lengths(
        histories.rows[order], histories.lengths, histories.weights[order], histories.timestamps[order]
    )


def untimed(histories: WatchHistories) -> WatchHistories:
    return replace(histories, timestamps=np.zeros_like(histories.timestamps))


@pytest.fixture(scope="module")
def successions() -> WatchHistories:
    return planted_successions(3, share=0.5)


def test_successions_are_an_order_with_or_without_times(successions: WatchHistories) -> None:
    timed = LogStatistics.of(successions, ITEM_COUNT)
    assert timed.order_known
    assert timed.times_known
    tied = LogStatistics.of(untimed(successions), ITEM_COUNT)
    assert tied.tied_share == 1
    assert tied.order_known
    assert not tied.times_known


@pytest.mark.parametrize("seed", range(5))
def test_shuffled_histories_have_no_order_whatever_their_times(successions: WatchHistories, seed: int) -> None:
    keys = np.random.default_rng(seed).random(len(successions.rows))
    shuffled = replace(reordered(successions, keys), timestamps=np.arange(len(successions.rows)))
    found = LogStatistics.of(shuffled, ITEM_COUNT)
    assert not found.order_known
    assert not found.times_known


def test_histories_sorted_by_weight_or_by_item_have_no_order(successions: WatchHistories) -> None:
    hours = np.random.default_rng(1).lognormal(size=len(successions.rows)).astype(np.float32)
    weighted = replace(successions, weights=hours)
    by_weight = LogStatistics.of(reordered(weighted, -hours), ITEM_COUNT)
    assert (by_weight.sorted_by, by_weight.order_known) == ("weight", False)
    by_item = LogStatistics.of(untimed(reordered(weighted, successions.rows)), ITEM_COUNT)
    assert (by_item.sorted_by, by_item.order_known) == ("item", False)


def test_hours_and_ratings_are_told_apart() -> None:
    histories = planted_histories()
    rng = np.random.default_rng(1)
    count = len(histories.rows)
    for weights, kind in (
        (np.ones(count), "none"),
        (rng.integers(1, 11, count) / 2, "ratings"),
        (rng.integers(1, 3, count), "ratings"),
        (rng.lognormal(size=count), "amounts"),
        (rng.integers(0, 3000, count), "amounts"),
    ):
        found = LogStatistics.of(replace(histories, weights=weights.astype(np.float32)), ITEM_COUNT)
        assert found.weights == kind


def test_the_smallest_logs_have_statistics() -> None:
    for rows, lengths, known in (([], [], True), ([0], [1], True), ([0, 0], [2], False)):
        histories = WatchHistories.from_lengths(
            np.array(rows, dtype=np.int32),
            np.array(lengths, dtype=np.int64),
            np.ones(len(rows), dtype=np.float32),
            np.zeros(len(rows), dtype=np.int64),
        )
        found = LogStatistics.of(histories, 1)
        assert found.order_known == known
        assert list(found.lines())


def test_times_are_believed_where_too_few_successions_repeat() -> None:
    count = 40
    histories = WatchHistories.from_lengths(
        np.arange(count, dtype=np.int32),
        np.full(10, 4),
        np.ones(count, dtype=np.float32),
        np.arange(count),
    )
    assert LogStatistics.of(histories, count).order_known
    assert not LogStatistics.of(untimed(histories), count).order_known
