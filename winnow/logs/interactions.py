"""Reads an interaction log, with user_id, item_id, timestamp and, optionally, weight."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from winnow.catalogue.vocabulary import Vocabulary
from winnow.history import WatchHistories
from winnow.logs.fingerprint import fingerprint
from winnow.logs.input_table import InputFileError, InputTable
from winnow.logs.log_format import PLAIN_LOG, LogFormat, Ties
from winnow.logs.skipped_rows import RowsRead
from winnow.logs.ties import tie_hashes
from winnow.logs.timestamps import MICROSECONDS_PER_SECOND, read_microseconds


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


@dataclass(frozen=True, kw_only=True, eq=False)
class WatchTable:
    """The watches of a log in the order of the file: user_id, item_id, microseconds since 1970, weight."""

    path: Path
    frame: pl.DataFrame
    rows: RowsRead
    ties: Ties


def read_watches(path: Path, log_format: LogFormat = PLAIN_LOG) -> WatchTable:
    """Read the watches of all items.

    Ids are text; integers are converted. A timestamp is seconds since 1970 (or the format's unit), with or without a
    fraction, or ISO 8601 text, in UTC unless it names a zone. Raises InputFileError that names the file, the column and
    the first line at fault.
    """
    table = InputTable.read(path, log_format.column_names, skip_bad_rows=log_format.skip_bad_rows)
    return watches_of(table, log_format)


def watches_of(table: InputTable, log_format: LogFormat) -> WatchTable:
    """Return the watches of a file in memory, as `read_watches` does."""
    check_columns(table, times=not log_format.no_times)
    untimed = pl.repeat(0, table.frame.height, dtype=pl.Int64, eager=True)
    frame = pl.DataFrame(
        {
            "user_id": table.text("user_id"),
            "item_id": table.item_ids(),
            "microseconds": untimed if log_format.no_times else read_microseconds(table, unit=log_format.time_unit),
            "weight": _weights(table, log_format),
        }
    )
    frame, rows = table.usable(frame)
    if not frame.height:
        raise InputFileError(f"{table.path}: no row can be used; {rows.first_skipped[0]}")
    repeated_count = frame.height - frame.n_unique(["user_id", "item_id", "microseconds"])
    return WatchTable(
        path=table.path, frame=frame, rows=replace(rows, repeated_count=repeated_count), ties=log_format.ties
    )


def check_columns(table: InputTable, *, times: bool = True) -> None:
    """Raise InputFileError that names all columns of a log that are missing, and what helps.

    Without `times`, none is needed.
    """
    options = {"user_id": "--user-column", "item_id": "--item-column"}
    if times:
        options["timestamp"] = "--time-column, or --no-times if it has none"
    missing = [name for name in options if table.find(name) is None]
    if missing:
        names = ", ".join(table.names.get(name, name) for name in missing)
        are = "column {} is" if len(missing) == 1 else "columns {} are"
        raise InputFileError(
            f"{table.path}: {are.format(names)} missing; the file has {', '.join(table.frame.columns)} "
            f"({', '.join(options[name] for name in missing)})"
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
    watches = table.frame
    item_ids = _most_frequent(watches, vocabulary_size=vocabulary_size, min_item_count=min_item_count)
    if not len(item_ids):
        raise InputFileError(f"{table.path}: column item_id: no item has {min_item_count} watches or more")
    dropped_item_count = watches["item_id"].n_unique() - len(item_ids)
    watches = watches.join(_numbered(item_ids, "row"), on="item_id", how="inner", maintain_order="left")
    user_ids = watches["user_id"].unique(maintain_order=True)
    watches = watches.join(_numbered(user_ids, "user"), on="user_id", how="inner", maintain_order="left")
    order = ["user", "microseconds"]
    if table.ties == "hash":
        watches = watches.with_columns(tie_hashes(watches))
        order.append("tie_hash")
    watches = watches.sort(order, maintain_order=True)
    lengths = np.bincount(watches["user"].to_numpy(), minlength=len(user_ids))
    histories = WatchHistories.from_lengths(
        watches["row"].cast(pl.Int32).to_numpy(),
        lengths,
        watches["weight"].to_numpy(),
        (watches["microseconds"] // MICROSECONDS_PER_SECOND).to_numpy(),
    )
    ids = "".join(f"{id_}\0" for column in (item_ids, user_ids) for id_ in column)
    return Interactions(
        vocabulary=Vocabulary(item_ids.to_list()),
        user_ids=user_ids.to_list(),
        histories=histories,
        fingerprint=fingerprint(
            ids.encode(), histories.rows, histories.offsets, histories.timestamps, histories.weights
        ),
        rows=replace(
            table.rows,
            dropped_item_count=dropped_item_count,
            dropped_row_count=table.frame.height - watches.height,
        ),
    )


def _most_frequent(watches: pl.DataFrame, *, vocabulary_size: int, min_item_count: int) -> pl.Series:
    """Return item ids, the most frequent first; equally frequent ones in alphabetical order."""
    counts = watches.group_by("item_id").len().filter(pl.col("len") >= min_item_count)
    return counts.sort("len", "item_id", descending=[True, False]).head(vocabulary_size)["item_id"]


def _numbered(ids: pl.Series, name: str) -> pl.DataFrame:
    return ids.to_frame().with_row_index(name)


def _weights(table: InputTable, log_format: LogFormat) -> pl.Series:
    # A column that was named has to be there.
    if table.find("weight") is not None or log_format.weight_column != "weight":
        return table.numbers("weight")
    return pl.repeat(1.0, table.frame.height, dtype=pl.Float32, eager=True)
