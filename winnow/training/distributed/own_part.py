"""The part of a log that one process trains on, and what it has to know of the others' parts.

Shape legend: U users of the whole log, V users of this process, N watches of the whole log's training part.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from winnow.history import NO_ROWS, Offsets, RaggedRows, stretches
from winnow.logs.parts import users_of_rank
from winnow.logs.split import HeldOut, LogSplit
from winnow.training.distributed.processes import Processes
from winnow.training.rollback_chunks import time_span


@dataclass(frozen=True, kw_only=True, eq=False)
class OwnPart:
    """The users of one process, with all their watches.

    List j of `split.training` is that of user `users[j]`, int64 [V], rising. `lengths`, int64 [U], counts the training
    watches of every user of the log: draws are numbered as if one process had all. `time_span` is that of the whole
    log.
    """

    split: LogSplit
    users: NDArray[np.int64]
    lengths: Offsets
    time_span: tuple[int, int]

    @classmethod
    def of(cls, split: LogSplit, user_ids: Sequence[str], processes: Processes) -> "OwnPart":
        """Keep the users whose part of the log belongs to this process: see winnow.logs.parts.

        The split has to be one that trains on all users. Raises ValueError where there are more processes than parts.
        """
        assert len(split.training) == len(user_ids)  # noqa: S101 - see check_supported
        users = users_of_rank(user_ids, processes.rank, processes.count)
        training, lengths = split.training, split.training.lengths
        own = replace(
            split,
            training=training.take(training.offsets[users], lengths[users]),
            validation=_of_users(split.validation, users),
            test=_of_users(split.test, users),
        )
        return cls(split=own, users=users, lengths=lengths, time_span=time_span(training))

    @property
    def all_lists(self) -> RaggedRows:
        """A list for each user of the log, of which only the length is known: what drawing examples reads."""
        return RaggedRows(NO_ROWS, np.concatenate([[0], np.cumsum(self.lengths)]))

    def here(self) -> NDArray[np.int64]:
        """Return which list of this process is that of each user of the log, int64 [U]; -1 for others' users."""
        lists_U = np.full(len(self.lengths), -1, dtype=np.int64)
        lists_U[self.users] = np.arange(len(self.users))
        return lists_U

    def own_of_lists(self, counts_U: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the numbers, among all users' things, of those of the users here; user u has `counts_U[u]` of them."""
        firsts_U = np.cumsum(counts_U) - counts_U
        return stretches(firsts_U[self.users], counts_U[self.users])


def _of_users(held_out: HeldOut, users: NDArray[np.int64]) -> HeldOut:
    kept = np.flatnonzero(np.isin(held_out.users, users))
    histories = held_out.histories
    return HeldOut(
        histories=histories.take(histories.offsets[kept], histories.lengths[kept]),
        targets=held_out.targets[kept],
        users=held_out.users[kept],
    )
