"""Leave-last-out: each user's last watch is the test, the one before it the validation, the rest is trained on."""

from dataclasses import dataclass
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from winnow.history import RaggedRows, Rows, WatchHistories

HELD_OUT_COUNT = 2

Histories = TypeVar("Histories", bound=RaggedRows)


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """One watch to predict for each of B users.

    `histories` holds everything the user watched before it, oldest first; `targets` is int32 [B].
    """

    histories: RaggedRows
    targets: Rows

    def __len__(self) -> int:
        return len(self.targets)

    def slice(self, start: int, stop: int) -> "HeldOut":
        """Users start..stop."""
        return HeldOut(histories=self.histories.slice(start, stop), targets=self.targets[start:stop])


@dataclass(frozen=True, kw_only=True, eq=False)
class LeaveLastOut:
    """The three parts of a log. No watch that is held out stands in `training`.

    Users with fewer than three watches cannot spare two of them: all of theirs are trained on, and none is held out.
    """

    training: WatchHistories
    validation: HeldOut
    test: HeldOut

    @classmethod
    def of(cls, histories: WatchHistories) -> Self:
        """Split histories that are ordered oldest first, one a user."""
        lengths = histories.lengths
        enough = lengths > HELD_OUT_COUNT
        kept = np.where(enough, lengths - HELD_OUT_COUNT, lengths)
        return cls(
            training=visible_before(histories, np.arange(len(histories)), kept),
            validation=_held_out(histories, enough, position_from_end=2),
            test=_held_out(histories, enough, position_from_end=1),
        )


def visible_before(
    histories: Histories, users: NDArray[np.int64], positions: NDArray[np.int64], limit: int | None = None
) -> Histories:
    """What `users[b]` had watched before their watch number `positions[b]`: B histories, oldest first.

    `limit` keeps the latest watches only.
    """
    lengths = positions if limit is None else np.minimum(positions, limit)
    return histories.take(histories.offsets[users] + positions - lengths, lengths)


def held_back(histories: RaggedRows, share: float, *, seed: int) -> NDArray[np.bool_]:
    """Draw the watches that the candidate network leaves to ranking, bool [N]; they stay in the histories of others."""
    drawn: NDArray[np.bool_] = np.random.default_rng(seed).random(len(histories.rows)) < share
    return drawn


def _held_out(histories: WatchHistories, enough: NDArray[np.bool_], *, position_from_end: int) -> HeldOut:
    users = np.flatnonzero(enough)
    positions = histories.lengths[users] - position_from_end
    return HeldOut(
        histories=visible_before(histories, users, positions),
        targets=histories.rows[histories.offsets[users] + positions],
    )
