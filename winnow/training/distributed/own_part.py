"""The part of a log that one process trains on, and what it has to know of the others' parts.

Shape legend: U users of the whole log, V users of this process, N watches of the whole log's training part, I items.
"""

from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from winnow.catalogue.vocabulary import Vocabulary
from winnow.history import NO_ROWS, Offsets, RaggedRows, WatchHistories, stretches
from winnow.logs.input_table import InputFileError
from winnow.logs.interactions import Interactions
from winnow.logs.skipped_rows import RowsRead
from winnow.logs.split import HELD_OUT_COUNT, HeldOut, LogSplit, check_enough, users_to_hold_out
from winnow.logs.statistics import LogStatistics, judged_users
from winnow.training.distributed.processes import Processes

Number = TypeVar("Number", np.int32, np.int64, np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class OwnPart:
    """The users of one process, with all their watches: what this process has of the log.

    List j of `split.training` is that of user `users[j]`, int64 [V], rising. `log_lengths` and `lengths`, int64 [U],
    count all watches, and the training watches, of every user of the log: draws are numbered as if one process had all.
    The rest is of the whole log, as in Interactions; `fingerprint` does not depend on the number of processes.
    """

    processes: Processes
    vocabulary: Vocabulary
    fingerprint: str
    rows: RowsRead
    split: LogSplit
    users: NDArray[np.int64]
    log_lengths: Offsets
    lengths: Offsets
    time_span: tuple[int, int]
    """Of the training watches."""

    @classmethod
    def of(
        cls,
        histories: WatchHistories,
        users: NDArray[np.int64],
        log_lengths: Offsets,
        processes: Processes,
        *,
        source: str,
        vocabulary: Vocabulary,
        fingerprint: str,
        rows: RowsRead,
    ) -> Self:
        """Hold out the last watches of users as LogSplit.leave_last_out does. Collective.

        `histories` are those of the users here. All processes raise InputFileError, in which `source` names the log,
        where there is too little to learn.
        """
        held_out, description = users_to_hold_out(log_lengths)
        lengths = log_lengths.copy()
        lengths[held_out] -= HELD_OUT_COUNT
        check_enough(lengths, len(held_out), description, source)
        split = LogSplit.last_out_of(histories, np.flatnonzero(np.isin(users, held_out)), description)
        return cls(
            processes=processes,
            vocabulary=vocabulary,
            fingerprint=fingerprint,
            rows=rows,
            split=replace(split, validation=_of_log(split.validation, users), test=_of_log(split.test, users)),
            users=users,
            log_lengths=log_lengths,
            lengths=lengths,
            time_span=_limits(split.training.timestamps, np.iinfo(np.int64).max, processes),
        )

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

    def watch_counts(self) -> NDArray[np.int64]:
        """Count the training watches of every item in all processes, int64 [I]. Collective."""
        own_counts = torch.from_numpy(self.split.watch_counts(len(self.vocabulary)))
        counts: NDArray[np.int64] = self.processes.total(own_counts.to(self.processes.device)).cpu().numpy()
        return counts

    def gathered(self, values: NDArray[Number], users: NDArray[np.int64]) -> NDArray[Number]:
        """Return the values of the training watches of some users of the log, user after user, in every process.

        `values` has those of the training watches here. Collective.
        """
        lists = self.here()[users]
        own_places = np.flatnonzero(lists >= 0)
        own_lists, training = lists[own_places], self.split.training
        own_values = values[stretches(training.offsets[own_lists], training.lengths[own_lists])]
        found, places = (
            torch.cat(self.processes.gather(torch.from_numpy(array).to(self.processes.device))).cpu().numpy()
            for array in (own_values, own_places)
        )
        lengths, order = self.lengths[users[places]], np.argsort(places)
        in_order: NDArray[Number] = found[stretches((np.cumsum(lengths) - lengths)[order], lengths[order])]
        return in_order

    def statistics(self) -> LogStatistics:
        """Return the statistics of the training watches of all processes. Collective."""
        training, users = self.split.training, judged_users(self.lengths)
        lightest, heaviest = _limits(training.weights, np.inf, self.processes)
        return LogStatistics.of_judged(
            WatchHistories.from_lengths(
                self.gathered(training.rows, users),
                self.lengths[users],
                self.gathered(training.weights, users),
                self.gathered(training.timestamps, users),
            ),
            self.lengths,
            len(self.vocabulary),
            lightest=lightest,
            heaviest=heaviest,
        )

    def check_same(self, log: Interactions, source: str) -> None:
        """Raise InputFileError where this was not read from the log, which `source` names."""
        ours, theirs = (ids.item_ids(range(len(ids))) for ids in (self.vocabulary, log.vocabulary))
        if ours != theirs or not np.array_equal(self.log_lengths, log.histories.lengths):
            raise InputFileError(f"{source} has changed since the training began: train again")


def _of_log(held_out: HeldOut, users: NDArray[np.int64]) -> HeldOut:
    return replace(held_out, users=users[held_out.users])


def _limits(values: NDArray[Number], none: float, processes: Processes) -> tuple[Any, Any]:
    """Return the least and the greatest of the values of all processes. Collective.

    `none`, which is greater than any, stands for the values of a process that has none.
    """
    own = [-values.min(initial=none).item(), values.max(initial=-none).item()]
    negated, greatest = processes.largest(torch.tensor(own, device=processes.device)).tolist()
    return -negated, greatest
