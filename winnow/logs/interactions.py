"""Reads an interaction log, with user_id, item_id, timestamp and, optionally, weight."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from winnow.catalogue.vocabulary import Vocabulary
from winnow.history import WatchHistories
from winnow.logs.disk_arrays import give_back
from winnow.logs.fingerprint import fingerprint
from winnow.logs.input_table import InputFileError
from winnow.logs.log_format import PLAIN_LOG, LogFormat, Ties
from winnow.logs.part_histories import PartHistories, collected, in_order
from winnow.logs.skipped_rows import RowsRead
from winnow.logs.ties import tie_hashes
from winnow.logs.timestamps import MICROSECONDS_PER_SECOND
from winnow.logs.watches import LOG_ROW, WatchTable, read_watches

# After each id that is hashed.
ID_END = "\0"
# More items than rows are numbered for.
EVERY_ITEM = 2**31 - 1


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
    path: Path, *, vocabulary_size: int = EVERY_ITEM, min_item_count: int = 1, log_format: LogFormat = PLAIN_LOG
) -> Interactions:
    """Read a log and keep the watches of its `vocabulary_size` most frequent items; by default, of all items.

    Items with fewer than `min_item_count` watches are left out. Raises InputFileError as `read_watches` does, and where
    no item is left.
    """
    return select_interactions(
        read_watches(path, log_format), vocabulary_size=vocabulary_size, min_item_count=min_item_count
    )


def select_interactions(table: WatchTable, *, vocabulary_size: int, min_item_count: int) -> Interactions:
    """Keep the watches of the `vocabulary_size` most frequent items. Raises InputFileError where no item is left."""
    kept = frequent_items(table, vocabulary_size=vocabulary_size, min_item_count=min_item_count)
    found = collected(table.path, histories_of_parts(table, kept["item_id"]))
    user_ids, histories = in_order(found, found.first_rows)
    ids = [joined_ids(column) for column in (kept["item_id"], user_ids)]
    data = fingerprint(*ids, histories.rows, histories.offsets, histories.timestamps, histories.weights)
    give_back(histories.rows, histories.timestamps, histories.weights)
    return Interactions(
        vocabulary=Vocabulary(kept["item_id"].to_list()),
        user_ids=user_ids.to_list(),
        histories=histories,
        fingerprint=data,
        rows=rows_kept(table, kept),
    )


def frequent_items(table: WatchTable, *, vocabulary_size: int, min_item_count: int) -> pl.DataFrame:
    """Return item_id and len of the most frequent items, in order; equally frequent ones in alphabetical order.

    Raises InputFileError where no item is left.
    """
    frequent = table.item_counts.filter(pl.col("len") >= min_item_count)
    if not len(frequent):
        raise InputFileError(f"{table.path}: column item_id: no item has {min_item_count} watches or more")
    return frequent.sort("len", "item_id", descending=[True, False]).head(vocabulary_size)


def histories_of_parts(table: WatchTable, item_ids: pl.Series) -> Iterator[PartHistories]:
    """Read the watches of these items, part after part."""
    rows_of_items = item_ids.to_frame().with_row_index("row")
    return (_histories(frame, rows_of_items, table.ties) for frame in table.frames())


def rows_kept(table: WatchTable, kept: pl.DataFrame) -> RowsRead:
    """Return what became of the rows of a log of which these items are kept."""
    return replace(
        table.rows,
        dropped_item_count=len(table.item_counts) - len(kept),
        dropped_row_count=table.watch_count - int(kept["len"].sum()),
    )


def joined_ids(ids: pl.Series) -> bytes:
    """Return what is hashed of ids."""
    return f"{ids.str.join(ID_END).item()}{ID_END}".encode()


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
