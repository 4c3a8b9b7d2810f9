"""Ragged histories as the rectangles that the other libraries read: row + 1 for an item, 0 for nothing.

Shape legend: B histories or windows, T places of a rectangle, N examples.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from winnow.history import RaggedRows

PADDING = 0


def padded(histories: RaggedRows, length: int) -> NDArray[np.int64]:
    """Return the latest `length` watches of each history, oldest first, then padding: int64 [B, T]."""
    latest = histories.last(length)
    items_BT = np.full((len(latest), length), PADDING, dtype=np.int64)
    items_BT[np.arange(length) < latest.lengths[:, None]] = latest.rows + 1
    return items_BT


def windows(training: RaggedRows, length: int) -> RaggedRows:
    """Cut each history, from its end, into stretches of at most `length` + 1 watches that overlap in one.

    So each watch but the first of a user is predicted in exactly one window. Histories of one watch give none.
    """
    begins, lengths = [], []
    for user, watched in enumerate(training.lengths.tolist()):
        for end in range(watched, 1, -length):
            begin = max(0, end - length - 1)
            begins.append(int(training.offsets[user]) + begin)
            lengths.append(end - begin)
    return training.take(np.array(begins, dtype=np.int64), np.array(lengths, dtype=np.int64))


def batches(cut: RaggedRows, size: int, rng: np.random.Generator) -> Iterator[tuple[NDArray[np.int64], ...]]:
    """Yield the windows in batches of like length and random order: what is watched and what follows, int64 [B, T]."""
    order = np.argsort(cut.lengths + rng.random(len(cut)), kind="stable")
    parts = np.array_split(order, -(-len(order) // size))
    for number in rng.permutation(len(parts)).tolist():
        chosen = parts[number]
        stretch = cut.take(cut.offsets[chosen], cut.lengths[chosen])
        items_BT = padded(stretch, int(stretch.lengths.max()))
        yield np.where(items_BT[:, 1:] != PADDING, items_BT[:, :-1], PADDING), items_BT[:, 1:]


def examples(training: RaggedRows, length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return for each watch but the first of a user where its history begins and where it is itself, int64 [N] each.

    They are positions in `training.rows`; a history is at most `length` watches.
    """
    firsts = np.repeat(training.offsets[:-1], training.lengths)
    places = np.arange(len(training.rows))
    predicted = places > firsts
    return np.maximum(firsts, places - length)[predicted], places[predicted]
