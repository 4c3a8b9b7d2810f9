"""Histories in random order, beside the histories themselves: where a log does not say what came first.

Shape legend: N watches of all histories, M = (1 + copies) * N.
"""

import numpy as np
from numpy.typing import NDArray

from winnow.history import WatchHistories


def positions_of_copies(histories: WatchHistories, copies: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return which watch each one of the histories, and of their shuffled copies after them, is: int64 [M]."""
    if not copies:
        return np.arange(len(histories.rows), dtype=np.min_scalar_type(-max(len(histories.rows), 1)))
    users_N = np.repeat(np.arange(len(histories)), histories.lengths)
    shuffled = [np.lexsort((rng.random(len(users_N)), users_N)) for _ in range(copies)]
    return np.concatenate([np.arange(len(users_N)), *shuffled])


def at_positions(histories: WatchHistories, positions: NDArray[np.int64]) -> WatchHistories:
    """Return the histories and their copies, as many lists as all of them together have."""
    list_copies = len(positions) // max(len(histories.rows), 1)
    if list_copies == 1:
        return histories
    return WatchHistories.from_lengths(
        histories.rows[positions],
        np.tile(histories.lengths, list_copies),
        histories.weights[positions],
        histories.timestamps[positions],
    )
