"""Rollback (paper, section 3.4): the example of a watch is what its user had watched before it."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from winnow.history import RaggedRows

Histories = TypeVar("Histories", bound=RaggedRows)


def visible_before(
    histories: Histories, users: NDArray[np.int64], positions: NDArray[np.int64], limit: int | None = None
) -> Histories:
    """Return what `users[b]` had watched before watch number `positions[b]`: B histories, oldest first.

    `limit` keeps only the latest watches.
    """
    lengths = positions if limit is None else np.minimum(positions, limit)
    return histories.take(histories.offsets[users] + positions - lengths, lengths)


def sample_examples(
    histories: RaggedRows, eligible: NDArray[np.bool_], examples_per_user: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw up to `examples_per_user` watches of each user: the user and the position of each, int64.

    Only watches that are `eligible`, bool [N], and have another watch before them are drawn.
    """
    lengths = histories.lengths
    users = np.repeat(np.arange(len(histories)), lengths)
    positions = np.arange(len(users)) - np.repeat(histories.offsets[:-1], lengths)
    possible = eligible & (positions > 0)
    users, positions = users[possible], positions[possible]
    # Sorting by random keys shuffles the watches of each user; the first ones are a sample without replacement.
    shuffled = np.lexsort((rng.random(len(users)), users))
    users, positions = users[shuffled], positions[shuffled]
    firsts = np.searchsorted(users, users)
    chosen = np.arange(len(users)) - firsts < examples_per_user
    return users[chosen], positions[chosen]
