"""Reads an interaction log, with user_id, item_id, timestamp and, optionally, weight."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from winnow.catalogue.vocabulary import Vocabulary
from winnow.history import WatchHistories
from winnow.logs.disk_arrays import give_back
from winnow.logs.fingerprint import fingerprint
from winnow.logs.input_table import InputFileError
from winnow.logs.log_format import PLAIN_LOG, LogFormat, Ties
from winnow.logs.part_histories import PartHistories, in_order
from winnow.logs.skipped_rows import RowsRead
from winnow.logs.ties import tie_hashes
from winnow.logs.timestamps import MICROSECONDS_PER_SECOND
from winnow.logs.watches import LOG_ROW, WatchTable, read_watches

# In what is hashed.
ID_END = "\0"


@dataclass(frozen=True, kw_only=True)
class UserWatches:
    """What one user watched, oldest first, as the client sends it: three lists with one element per watch."""

    item_ids: list[str]
    weights: list[float]
    timestamps: list[int]


@dataclass(frozen=True, kw_only=True, eq=False)
class Interactions:
    """All watches of the items in the vocabulary, by user.

    `histories` has one list per user, oldest first; watches with equal timestamps keep the order of the file, or are in
    that of a hash. All timestamps and weights are known; a log without weights has 1. `user_ids` is in order of first
    appearance. Row 0 of the vocabulary is the most frequent item. `fingerprint` is a SHA-256 of all of this. `rows`
    says what became of the rows of the file.
    """

    vocabulary: Vocabulary
    user_ids: Sequence[str]
    histories: WatchHistories
    fingerprint: str
    rows: RowsRead

    def of_user(self, user_id: str) -> UserWatches:
        """Return the watches of one user. Raises ValueError where the log has none."""
        if user_id not in self.user_ids:
            raise ValueError(f"the log has no user {user_id!r}")
        user = self.user_ids.index(user_id)
        watches = self.histories.slice(user, user + 1)
        return UserWatches(
            item_ids=self.vocabulary.item_ids(watches.rows.tolist()),
            weights=watches.weights.tolist(),
            timestamps=watches.timestamps.tolist(),
        )


def read_interactions(
    path: Path, *, vocabulary_size: int, min_item_count: int, log_format: LogFormat = PLAIN_LOG
) -> Interactions:
    """Read a log and keep the watches of its `vocabulary_size` most frequent items.

    Items with fewer than `min_item_count` watches are left out. Raises InputFileError as `read_watches` does, and where
    no item is left.
    """
    return select_interactions(
        read_watches(path, log_format), vocabulary_size=vocabulary_size, min_item_count=min_item_count
    )


def select_interactions(table: WatchTable, *, vocabulary_size: int, min_item_count: int) -> Interactions:
    """Keep the watches of the `vocabulary_size` most frequent items. Raises InputFileError where no item is left."""
    kept = _most_frequent(table.item_counts, vocabulary_size=vocabulary_size, min_item_count=min_item_count)
    item_ids = kept["item_id"]
    if not len(item_ids):
        raise InputFileError(f"{table.path}: column item_id: no item has {min_item_count} watches or more")
    rows_of_items = item_ids.to_frame().with_row_index("row")
    user_ids, histories = in_order(
        table.path, (_histories(frame, rows_of_items, table.ties) for frame in table.frames())
    )
    ids = [f"{column.str.join(ID_END).item()}{ID_END}".encode() for column in (item_ids, user_ids)]
    data = fingerprint(*ids, histories.rows, histories.offsets, histories.timestamps, histories.weights)
    give_back(histories.rows, histories.timestamps, histories.weights)
    return Interactions(
        vocabulary=Vocabulary(item_ids.to_list()),
        user_ids=user_ids.to_list(),
        histories=histories,
        fingerprint=data,
        rows=replace(
            table.rows,
            dropped_item_count=len(table.item_counts) - len(item_ids),
            dropped_row_count=table.watch_count - int(kept["len"].sum()),
        ),
    )


def _most_frequent(counts: pl.DataFrame, *, vocabulary_size: int, min_item_count: int) -> pl.DataFrame:
    """Return the counts of the most frequent items, in order; equally frequent ones in alphabetical order."""
    frequent = counts.filter(pl.col("len") >= min_item_count)
    return frequent.sort("len", "item_id", descending=[True, False]).head(vocabulary_size)


def _histories(watches: pl.DataFrame, rows_of_items: pl.DataFrame, ties: Ties) -> PartHistories:
    """Return the histories of the users of a part, in order of first appearance."""
    watches = watches.join(rows_of_items, on="item_id", how="inner", maintain_order="left")
    users = watches.group_by("user_id", maintain_order=True).agg(pl.len(), pl.col(LOG_ROW).first())
    numbered = users.select("user_id").with_row_index("user")
    watches = watches.join(numbered, on="user_id", how="inner", maintain_order="left")
    order = ["user", "microseconds"]
    if ties == "hash":
        watches = watches.with_columns(tie_hashes(watches))
        order.append("tie_hash")
    watches = watches.sort(order, maintain_order=True)
    return PartHistories(
        user_ids=users["user_id"],
        first_rows=users[LOG_ROW].to_numpy(),
        histories=WatchHistories.from_lengths(
            watches["row"].cast(pl.Int32).to_numpy(),
            users["len"].to_numpy(),
            watches["weight"].to_numpy(),
            (watches["microseconds"] // MICROSECONDS_PER_SECOND).to_numpy(),
        ),
    )
