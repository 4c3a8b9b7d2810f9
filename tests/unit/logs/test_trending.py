"""Trending items are those that were watched more of late than they usually are."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from winnow.history import WatchHistories
from winnow.logs.trending import ADDED_WATCHES, WINDOW_SECONDS, trending_items

DAY = 24 * 3600


def watches(*of_items: tuple[int, list[int]]) -> WatchHistories:
    """One user's watches: of each item, at these times."""
    rows = np.array([row for row, times in of_items for _ in times], dtype=np.int32)
    times = np.array([time for _, times in of_items for time in times], dtype=np.int64)
    order = np.argsort(times, kind="stable")
    return WatchHistories.from_lengths(rows[order], np.array([len(rows)]), None, times[order])


def spread(count: int, first_day: float, last_day: float) -> list[int]:
    return [round(time) for time in np.linspace(first_day * DAY, last_day * DAY, count)]


def test_the_share_of_the_last_week_is_compared_with_the_usual_share() -> None:
    log = watches(
        (0, spread(2_000, 0, 200)),  # always popular: no trend
        (1, spread(100, 0, 190) + spread(40, 194, 200)),  # rising
        (2, spread(100, 0, 190)),  # no longer watched
        (3, spread(30, 194, 200)),  # new
        (4, spread(2, 199, 200)),  # new, and watched twice
    )
    trending = trending_items(log, item_count=6)
    assert trending.rows.tolist() == [3, 1, 4]
    # Item 3: 30 watches where none was expected.
    assert trending.ratios[0] == np.float32((30 + ADDED_WATCHES) / ADDED_WATCHES)


def test_of_a_short_log_the_window_is_a_tenth() -> None:
    log = watches((0, spread(900, 0, 1)), (1, spread(100, 0.95, 1)))
    assert trending_items(log, item_count=2).rows.tolist() == [1]


def test_without_earlier_watches_nothing_trends() -> None:
    assert trending_items(watches((0, [5] * 50), (1, [5])), item_count=3).rows.tolist() == []
    assert trending_items(WatchHistories.empty(2), item_count=3).rows.tolist() == []


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4 * WINDOW_SECONDS)), min_size=1, max_size=200))
def test_in_any_log_each_item_is_once_in_the_list_and_rose(log: list[tuple[int, int]]) -> None:
    trending = trending_items(watches(*((row, [time]) for row, time in log)), item_count=6)
    newest = max(time for _, time in log)
    assert len(set(trending.rows.tolist())) == len(trending.rows)
    assert (trending.ratios > 1).all()
    assert (trending.ratios[1:] <= trending.ratios[:-1]).all()
    for row in trending.rows.tolist():
        assert any(time > newest - WINDOW_SECONDS for watched, time in log if watched == row)
