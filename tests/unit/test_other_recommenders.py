"""How `python -m benchmarks.other_recommenders` prepares the log for other libraries. They are not installed here."""

import itertools

import numpy as np
import pytest

from benchmarks.other_recommenders.padded import PADDING, batches, examples, padded, windows
from winnow.history import RaggedRows

TRAINING = RaggedRows.from_lists([[4, 7, 1, 0, 2], [5], [], [3, 6], [9, 8, 7, 6, 5, 4, 3, 2]])


def pairs(histories: list[list[int]]) -> list[tuple[int, int]]:
    """Every watch with the one before it."""
    return sorted(pair for history in histories for pair in itertools.pairwise(history))


def test_the_latest_watches_come_first_and_padding_last() -> None:
    assert padded(TRAINING, 3).tolist() == [[2, 1, 3], [6, 0, 0], [0, 0, 0], [4, 7, 0], [5, 4, 3]]


@pytest.mark.parametrize("length", [1, 2, 3, 4, 7, 20])
def test_each_watch_is_predicted_once_in_some_window(length: int) -> None:
    cut = windows(TRAINING, length)
    assert cut.lengths.max() <= length + 1
    found = [cut[number].tolist() for number in range(len(cut))]
    assert pairs(found) == pairs([TRAINING[user].tolist() for user in range(len(TRAINING))])


def test_batches_have_every_window_and_the_next_watch_at_each_place() -> None:
    cut = windows(TRAINING, 3)
    seen: list[tuple[int, int]] = []
    for watched_BT, next_BT in batches(cut, 2, np.random.default_rng(1)):
        assert watched_BT.shape == next_BT.shape
        assert ((watched_BT != PADDING) == (next_BT != PADDING)).all()
        places = next_BT != PADDING
        seen += zip((watched_BT[places] - 1).tolist(), (next_BT[places] - 1).tolist(), strict=True)
    assert sorted(seen) == pairs([cut[number].tolist() for number in range(len(cut))])


def test_an_example_is_a_watch_and_the_watches_of_the_same_user_before_it() -> None:
    begins, places = examples(TRAINING, 3)
    found = [
        (TRAINING.rows[begin:place].tolist(), int(TRAINING.rows[place]))
        for begin, place in zip(begins.tolist(), places.tolist(), strict=True)
    ]
    assert found[:5] == [([4], 7), ([4, 7], 1), ([4, 7, 1], 0), ([7, 1, 0], 2), ([3], 6)]
    assert found[-1] == ([5, 4, 3], 2)
    assert len(found) == 4 + 1 + 7
