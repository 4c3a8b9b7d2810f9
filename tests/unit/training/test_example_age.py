import numpy as np

from winnow.history import WatchHistories
from winnow.training.example_age import example_ages


def log(timestamps: list[int]) -> WatchHistories:
    rows = np.zeros(len(timestamps), dtype=np.int32)
    return WatchHistories.from_lengths(rows, np.array([len(rows)]), None, np.array(timestamps, dtype=np.int64))


def test_ages_are_shares_of_the_window() -> None:
    np.testing.assert_allclose(example_ages(log([100, 300, 200, 140])), [1.0, 0.0, 0.5, 0.8])


def test_a_window_of_one_moment_has_no_age() -> None:
    assert example_ages(log([7, 7])).tolist() == [0.0, 0.0]
    assert len(example_ages(log([]))) == 0
