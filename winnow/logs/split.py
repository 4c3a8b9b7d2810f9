"""Which watches are trained on and which are held out: the last ones of each user, or all after some moment."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

import numpy as np
from numpy.typing import NDArray

from winnow.history import RaggedRows, Rows, WatchHistories
from winnow.logs.blocks import count_rows, slices
from winnow.logs.disk_arrays import give_back
from winnow.logs.input_table import InputFileError
from winnow.logs.part_histories import taken
from winnow.logs.rollback import sample_examples, visible_before

HELD_OUT_COUNT = 2
# Of the split by time: validation and test are each this share of all watches.
WINDOW_SHARE = 0.1
# Of the split by time: at most this many watches of a user are predicted, so that evaluation does not take hours.
TARGETS_PER_USER = 10
# Watches of at most this many users are predicted: more would hardly make figures more exact, and would take hours.
MOST_USERS = 100_000
SEED = 1
WATCHES_PER_BLOCK = 512


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """B watches to predict.

    `targets`, int32 [B], are the rows of the watched items, `users`, int64 [B], the numbers of the users who watched
    them; `histories` is everything the same user had watched before, oldest first.
    """

    histories: RaggedRows
    targets: Rows
    users: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.targets)

    def blocks(self) -> Iterator["HeldOut"]:
        """Cut into parts that are small enough to score all items for."""
        for start in range(0, len(self), WATCHES_PER_BLOCK):
            yield self.slice(start, min(start + WATCHES_PER_BLOCK, len(self)))

    def slice(self, start: int, stop: int) -> "HeldOut":
        """Watches start..stop."""
        return HeldOut(
            histories=self.histories.slice(start, stop),
            targets=self.targets[start:stop],
            users=self.users[start:stop],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class LogSplit:
    """A log in three parts. No held-out watch is in `training`. `description` is for people."""

    training: WatchHistories
    validation: HeldOut
    test: HeldOut
    description: str

    @property
    def held_out(self) -> dict[str, HeldOut]:
        """The parts that are held out, by name; a part without watches is left out."""
        parts = {"validation": self.validation, "test": self.test}
        return {name: held_out for name, held_out in parts.items() if len(held_out)}

    def watch_counts(self, item_count: int) -> NDArray[np.int64]:
        """Count the training watches of every item, int64 [item_count]."""
        return count_rows(self.training.rows, item_count)

    @classmethod
    def leave_last_out(cls, histories: WatchHistories, *, most_users: int = MOST_USERS) -> Self:
        """Hold out each user's last watch for the test and the one before it for validation.

        `histories` has one list per user, oldest first. The watches of users with fewer than three are all trained on.
        Of more users than `most_users`, so many are drawn, and all watches of the others are trained on.
        """
        return cls.last_out_of(histories, *users_to_hold_out(histories.lengths, most_users))

    @classmethod
    def last_out_of(cls, histories: WatchHistories, users: NDArray[np.int64], description: str) -> Self:
        """Hold out the last two watches of some users, int64, who have more."""
        lengths = histories.lengths
        kept = lengths.copy()
        kept[users] -= HELD_OUT_COUNT
        split = cls(
            training=taken(histories, histories.offsets[:-1], kept),
            validation=_held_out(histories, users, lengths[users] - 2),
            test=_held_out(histories, users, lengths[users] - 1),
            description=description,
        )
        give_back(histories.rows, histories.weights, histories.timestamps)
        return split

    @classmethod
    def by_time(cls, histories: WatchHistories, *, most_users: int = MOST_USERS) -> Self:
        """Train on the watches before one moment, validate on those up to a second moment, test on the later ones.

        Before these moments lie 1 - 2 * WINDOW_SHARE and 1 - WINDOW_SHARE of all watches. In each window, up to
        TARGETS_PER_USER watches of each user are predicted, drawn at random from those with an earlier watch. The
        history of each is everything the user had watched before it, in the window too, as a service would know it. Of
        more users than `most_users` in a window, so many are drawn.
        """
        shares = 1 - 2 * WINDOW_SHARE, 1 - WINDOW_SHARE
        validation_start, test_start = np.quantile(histories.timestamps, shares, method="nearest").tolist()
        is_earlier = histories.timestamps < validation_start
        before = np.diff(np.searchsorted(np.flatnonzero(is_earlier), histories.offsets))
        trained_users = np.flatnonzero(before)
        validation, of_whom = _drawn(histories, ~is_earlier & (histories.timestamps < test_start), most_users)
        test, _ = _drawn(histories, histories.timestamps >= test_start, most_users)
        split = cls(
            training=taken(histories, histories.offsets[trained_users], before[trained_users]),
            validation=validation,
            test=test,
            description=(
                f"watches before {_utc(validation_start)} are trained on, those from there to {_utc(test_start)} are "
                f"the validation, the later ones the test; up to {TARGETS_PER_USER} of each user, every user counts "
                f"the same{of_whom}"
            ),
        )
        give_back(histories.rows, histories.weights, histories.timestamps)
        return split


# By their names in the settings.
SPLITS = {"leave-last-out": LogSplit.leave_last_out, "global-time": LogSplit.by_time}


def checked(split: LogSplit, source: str) -> LogSplit:
    """Return the split. Raises InputFileError, in which `source` names the log, where there is too little to learn."""
    check_enough(split.training.lengths, len(split.validation), split.description, source)
    return split


def check_enough(training_lengths: NDArray[np.int64], held_out_count: int, description: str, source: str) -> None:
    """Raise InputFileError, in which `source` names the log, where a split leaves too little to learn."""
    if (training_lengths < 2).all():
        raise InputFileError(f"{source}: too few watches: no user has two to train on. Split: {description}")
    if not held_out_count:
        raise InputFileError(f"{source}: too few watches: no user has one to hold out. Split: {description}")


def users_to_hold_out(lengths: NDArray[np.int64], most_users: int = MOST_USERS) -> tuple[NDArray[np.int64], str]:
    """Return the users whose last two watches are held out, int64, and say for people which split that is.

    `lengths`, int64, counts the watches of every user.
    """
    users, of_whom = _some_users(np.flatnonzero(lengths > HELD_OUT_COUNT), most_users)
    return users, f"each user's last watch is the test, the one before it the validation{of_whom}"


def held_back(watch_count: int, share: float, *, seed: int) -> NDArray[np.bool_]:
    """Draw the watches that only ranking learns to predict, bool [N]; they stay in the histories of later watches."""
    rng = np.random.default_rng(seed)
    drawn = np.empty(watch_count, dtype=np.bool_)
    for block in slices(watch_count):
        drawn[block] = rng.random(block.stop - block.start) < share
    return drawn


def _drawn(histories: WatchHistories, window: NDArray[np.bool_], most_users: int) -> tuple[HeldOut, str]:
    users, positions = sample_examples(histories, window, TARGETS_PER_USER, np.random.default_rng(SEED))
    some, of_whom = _some_users(np.unique(users), most_users)
    kept = np.isin(users, some) if of_whom else slice(None)
    return _held_out(histories, users[kept], positions[kept]), of_whom


def _some_users(users: NDArray[np.int64], count: int) -> tuple[NDArray[np.int64], str]:
    """Return at most `count` users, which stay in order, and say so if these are not all.

    Every user has a random number for ever, and the smallest win: when a log grows at its end, nobody is drawn whose
    last watches an earlier release has learned from.
    """
    if len(users) <= count:
        return users, ""
    numbers = np.random.default_rng(SEED).random(int(users[-1]) + 1)[users]
    drawn = np.sort(np.argpartition(numbers, count - 1)[:count])
    return users[drawn], f", of {count:,} of {len(users):,} users, drawn at random"


def _held_out(histories: WatchHistories, users: NDArray[np.int64], positions: NDArray[np.int64]) -> HeldOut:
    return HeldOut(
        histories=visible_before(histories, users, positions),
        targets=histories.rows[histories.offsets[users] + positions],
        users=users,
    )


def _utc(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
