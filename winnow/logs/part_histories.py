"""Puts the histories of the parts of a log into one order: that in which users first appear in the log.

The result does not depend on the number of parts. Histories of several parts are arrays on disk.

Shape legend: U users, N watches.
"""

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from winnow.history import WatchHistories
from winnow.logs.blocks import WATCHES_PER_BLOCK, blocks_of_lengths
from winnow.logs.disk_arrays import DiskArray, give_back
from winnow.logs.input_table import InputFileError


@dataclass(frozen=True, kw_only=True, eq=False)
class PartHistories:
    """The histories of the users of one part, in order of first appearance, or of several parts.

    `first_rows`, int64 [U], are the rows of the log in which they first appear: in one part, they rise.
    """

    user_ids: pl.Series
    first_rows: NDArray[np.int64]
    histories: WatchHistories


class Watches(NamedTuple):
    """The columns of histories on disk."""

    rows: DiskArray[np.int32]
    weights: DiskArray[np.float32]
    timestamps: DiskArray[np.int64]

    @classmethod
    def empty(cls) -> Self:
        """No watches."""
        return cls(DiskArray(np.int32), DiskArray(np.float32), DiskArray(np.int64))

    def close(self) -> None:
        """Remove what was written, unless it is mapped."""
        for column in self:
            column.close()

    def append(self, histories: WatchHistories) -> None:
        """Write the watches of histories. Raises OSError where the disk is full."""
        self.rows.append(histories.rows)
        self.weights.append(histories.weights)
        self.timestamps.append(histories.timestamps)

    def histories(self, lengths: NDArray[np.int64]) -> WatchHistories:
        """Map all that was written. Nothing can be appended after that."""
        return WatchHistories.from_lengths(self.rows.mapped(), lengths, self.weights.mapped(), self.timestamps.mapped())


def collected(log: Path, parts: Iterable[PartHistories]) -> PartHistories:
    """Return the users of all parts and their histories, part after part.

    Raises InputFileError where a user or a row is in two parts, and OSError where the disk is full.
    """
    read = iter(parts)
    first, second = next(read), next(read, None)
    if second is None:
        return first
    ids_of_parts, rows_of_parts, lengths_of_parts = [], [], []
    with closing(Watches.empty()) as watches:
        for part in chain([first, second], read):
            watches.append(part.histories)
            ids_of_parts.append(part.user_ids)
            rows_of_parts.append(part.first_rows)
            lengths_of_parts.append(part.histories.lengths)
        histories = watches.histories(np.concatenate(lengths_of_parts))
    user_ids = pl.concat(ids_of_parts)
    first_rows = np.concatenate(rows_of_parts)
    check_different(log, user_ids)
    check_different_rows(log, first_rows)
    return PartHistories(user_ids=user_ids, first_rows=first_rows, histories=histories)


def check_different(log: Path, user_ids: pl.Series) -> None:
    """Raise InputFileError where a user is in two parts."""
    repeated = user_ids.filter(user_ids.is_duplicated())
    if len(repeated):
        raise InputFileError(f"{log}: the user {repeated[0]!r} is in two parts: a user's watches must be in one part")


def check_different_rows(log: Path, first_rows: NDArray[np.int64]) -> None:
    """Raise InputFileError where users of two parts first appear in the same row."""
    if not np.diff(np.sort(first_rows)).all():
        raise InputFileError(f"{log}: rows of two parts have the same log_row: the parts are of different logs")


def in_order(found: PartHistories, numbers: NDArray[np.int64]) -> tuple[pl.Series, WatchHistories]:
    """Return the users and their histories in the order of `numbers`, int64 [U].

    Raises OSError where the disk is full.
    """
    order = np.argsort(numbers, kind="stable")
    if (np.diff(order) == 1).all():
        return found.user_ids, found.histories
    histories = found.histories
    return found.user_ids.gather(order), taken(histories, histories.offsets[order], histories.lengths[order])


def taken(
    histories: WatchHistories,
    begins: NDArray[np.int64],
    lengths: NDArray[np.int64],
    *,
    watches_per_block: int = WATCHES_PER_BLOCK,
) -> WatchHistories:
    """Return `histories.take(begins, lengths)`, which need not fit into memory: where it is large, it is on disk."""
    if int(lengths.sum()) <= watches_per_block:
        return histories.take(begins, lengths)
    with closing(Watches.empty()) as watches:
        for first, last in blocks_of_lengths(lengths, watches_per_block):
            watches.append(histories.take(begins[first:last], lengths[first:last]))
            give_back(histories.rows, histories.weights, histories.timestamps)
        return watches.histories(lengths)
