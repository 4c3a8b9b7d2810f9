"""Rollback (paper, section 3.4): the example of a watch is what its user had watched before it."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from winnow.history import RaggedRows
from winnow.logs.blocks import WATCHES_PER_BLOCK, blocks_of_lengths

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
    histories: RaggedRows,
    eligible: NDArray[np.bool_],
    examples_per_user: int,
    rng: np.random.Generator,
    *,
    watches_per_block: int = WATCHES_PER_BLOCK,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw up to `examples_per_user` watches of each user: the user and the position of each, int64.

    Only watches that are `eligible`, bool [N], and have another watch before them are drawn. The watches of so many
    users as have `watches_per_block` together are drawn at once, which does not change what is drawn.
    """
    drawn = [
        _sample_of_users(histories, eligible, examples_per_user, rng, first, last)
        for first, last in blocks_of_lengths(histories.lengths, watches_per_block)
    ]
    users, positions = (np.concatenate(column) for column in zip(*drawn, strict=True))
    return users, positions


def _sample_of_users(
    histories: RaggedRows,
    eligible: NDArray[np.bool_],
    examples_per_user: int,
    rng: np.random.Generator,
    first: int,
    last: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    offsets = histories.offsets[first : last + 1]
    watches = np.flatnonzero(eligible[offsets[0] : offsets[-1]]) + offsets[0]
    users = np.searchsorted(offsets, watches, side="right") - 1
    positions = watches - offsets[users]
    users, positions = users[positions > 0] + first, positions[positions > 0]
    # Sorting by random keys shuffles the watches of each user; the first ones are a sample without replacement.
    shuffled = np.lexsort((rng.random(len(users)), users))
    users, positions = users[shuffled], positions[shuffled]
    firsts = np.searchsorted(users, users)
    chosen = np.arange(len(users)) - firsts < examples_per_user
    return users[chosen], positions[chosen]
