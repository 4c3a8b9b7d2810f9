"""What is trained on and what is held out: the last watches of each user, or all watches from a moment on."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

import numpy as np
from numpy.typing import NDArray

from winnow.history import RaggedRows, Rows, WatchHistories
from winnow.logs.rollback import sample_examples, visible_before

HELD_OUT_COUNT = 2
# Of the split by time: the share of all watches that validation and test get, each.
WINDOW_SHARE = 0.1
# Of the split by time: watches of a user to predict, drawn from all of theirs, so that no user asks for hours of work.
TARGETS_PER_USER = 10
SEED = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """B watches to predict, of U users.

    `histories` holds everything the user watched before each, oldest first; `targets` is int32 [B]; `users`, int64 [B],
    are numbers that tell users apart.
    """

    histories: RaggedRows
    targets: Rows
    users: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.targets)

    def slice(self, start: int, stop: int) -> "HeldOut":
        """Watches start..stop."""
        return HeldOut(
            histories=self.histories.slice(start, stop),
            targets=self.targets[start:stop],
            users=self.users[start:stop],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class LogSplit:
    """The three parts of a log. No watch that is held out stands in `training`. `description` tells a person."""

    training: WatchHistories
    validation: HeldOut
    test: HeldOut
    description: str

    @classmethod
    def leave_last_out(cls, histories: WatchHistories) -> Self:
        """Take each user's last watch for the test, the one before it for validation; one history a user, oldest first.

        Users with fewer than three watches cannot spare two: all of theirs are trained on, and none is held out.
        """
        lengths = histories.lengths
        users = np.flatnonzero(lengths > HELD_OUT_COUNT)
        kept = np.where(lengths > HELD_OUT_COUNT, lengths - HELD_OUT_COUNT, lengths)
        return cls(
            training=visible_before(histories, np.arange(len(histories)), kept),
            validation=_held_out(histories, users, lengths[users] - 2),
            test=_held_out(histories, users, lengths[users] - 1),
            description="each user's last watch is the test, the one before it the validation",
        )

    @classmethod
    def by_time(cls, histories: WatchHistories) -> Self:
        """Train on what was watched before one moment, validate on what follows it, test on the latest watches.

        The moments are those before which 1 - 2 * WINDOW_SHARE and 1 - WINDOW_SHARE of all watches were. To predict are
        up to TARGETS_PER_USER watches of every user in a window, drawn at random of those with any watch before them;
        the history of each is all that this user had watched before it, in the window too, as a service would know it.
        """
        shares = 1 - 2 * WINDOW_SHARE, 1 - WINDOW_SHARE
        validation_start, test_start = np.quantile(histories.timestamps, shares, method="nearest").tolist()
        users = np.repeat(np.arange(len(histories)), histories.lengths)
        before = np.bincount(users[histories.timestamps < validation_start], minlength=len(histories))
        trained_users = np.flatnonzero(before)
        return cls(
            training=visible_before(histories, trained_users, before[trained_users]),
            validation=_drawn(
                histories, (histories.timestamps >= validation_start) & (histories.timestamps < test_start)
            ),
            test=_drawn(histories, histories.timestamps >= test_start),
            description=(
                f"watches before {_utc(validation_start)} are trained on, those from there to {_utc(test_start)} are "
                f"the validation, the later ones the test; up to {TARGETS_PER_USER} of each user, every user counts "
                "the same"
            ),
        )


# By the name that settings give them.
SPLITS = {"leave-last-out": LogSplit.leave_last_out, "global-time": LogSplit.by_time}


def means_of_users(values_B: NDArray[np.generic], users_B: NDArray[np.int64]) -> NDArray[np.float64]:
    """Average the values of each user, float64 [U]: in a mean of these every user counts the same."""
    _, user_B, counts_U = np.unique(users_B, return_inverse=True, return_counts=True)
    means_U: NDArray[np.float64] = np.bincount(user_B, values_B) / counts_U
    return means_U


def held_back(histories: RaggedRows, share: float, *, seed: int) -> NDArray[np.bool_]:
    """Draw the watches that the candidate network leaves to ranking, bool [N]; they stay in the histories of others."""
    drawn: NDArray[np.bool_] = np.random.default_rng(seed).random(len(histories.rows)) < share
    return drawn


def _drawn(histories: WatchHistories, window: NDArray[np.bool_]) -> HeldOut:
    return _held_out(histories, *sample_examples(histories, window, TARGETS_PER_USER, np.random.default_rng(SEED)))


def _held_out(histories: WatchHistories, users: NDArray[np.int64], positions: NDArray[np.int64]) -> HeldOut:
    return HeldOut(
        histories=visible_before(histories, users, positions),
        targets=histories.rows[histories.offsets[users] + positions],
        users=users,
    )


def _utc(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
