"""Leave-last-out: each user's last watch is the test, the one before it the validation, the rest is trained on."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from winnow.history import RaggedRows, Rows

HELD_OUT_COUNT = 2


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

    `training_weights` (float32) belongs to the rows of `training`. Users with fewer than three watches cannot spare two
    of them: all of theirs are trained on, and none is held out.
    """

    training: RaggedRows
    training_weights: NDArray[np.float32]
    validation: HeldOut
    test: HeldOut

    @classmethod
    def of(cls, histories: RaggedRows, weights: NDArray[np.float32]) -> Self:
        """Split histories that are ordered oldest first, one a user, and the weights (float32) of their rows."""
        lengths = histories.lengths
        enough = lengths > HELD_OUT_COUNT
        kept = np.where(enough, lengths - HELD_OUT_COUNT, lengths)
        return cls(
            training=visible_before(histories, np.arange(len(histories)), kept),
            training_weights=weights[_positions(histories.offsets[:-1], kept)],
            validation=_held_out(histories, enough, position_from_end=2),
            test=_held_out(histories, enough, position_from_end=1),
        )


def visible_before(
    histories: RaggedRows, users: NDArray[np.int64], positions: NDArray[np.int64], limit: int | None = None
) -> RaggedRows:
    """What `users[b]` had watched before their watch number `positions[b]`: B histories, oldest first.

    `limit` keeps the latest watches only.
    """
    lengths = positions if limit is None else np.minimum(positions, limit)
    begins = histories.offsets[users] + positions - lengths
    return RaggedRows.from_lengths(histories.rows[_positions(begins, lengths)], lengths)


def _positions(begins: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """begins[b], begins[b] + 1, ... for lengths[b] elements, of all b, one after the other."""
    return np.repeat(begins - np.cumsum(lengths) + lengths, lengths) + np.arange(int(lengths.sum()))


def _held_out(histories: RaggedRows, enough: NDArray[np.bool_], *, position_from_end: int) -> HeldOut:
    users = np.flatnonzero(enough)
    positions = histories.lengths[users] - position_from_end
    return HeldOut(
        histories=visible_before(histories, users, positions),
        targets=histories.rows[histories.offsets[users] + positions],
    )
