"""Reads an interaction log: CSV or Parquet with user_id, item_id, timestamp and, optionally, weight."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from winnow.catalogue.vocabulary import Vocabulary
from winnow.history import WatchHistories
from winnow.logs.input_table import InputTable, InteractionLogError

MICROSECONDS_A_SECOND = 1_000_000
# The first second of the year 10000. Milliseconds since 1970 lie beyond it, from April 1978 on.
TIMESTAMP_LIMIT_SECONDS = 253_402_300_800


@dataclass(frozen=True, kw_only=True)
class UserWatches:
    """What one user watched, oldest first, in the form that the client sends: one element a watch in each list."""

    item_ids: list[str]
    weights: list[float]
    timestamps: list[int]


@dataclass(frozen=True, kw_only=True, eq=False)
class Interactions:
    """The watches of U users, N in all, of items in the vocabulary.

    `histories` has one list a user, oldest first; watches of equal timestamp keep the order of the file. All timestamps
    are known, and so are all weights: 1 where the log has none. `user_ids` is in the order of first appearance. Row 0
    of the vocabulary is the most frequent item. `fingerprint` is a SHA-256 of all of it.
    """

    vocabulary: Vocabulary
    user_ids: Sequence[str]
    histories: WatchHistories
    fingerprint: str

    def of_user(self, user_id: str) -> UserWatches:
        """Raise ValueError where the log has no watch of that user."""
        if user_id not in self.user_ids:
            raise ValueError(f"the log has no user {user_id!r}")
        user = self.user_ids.index(user_id)
        watches = self.histories.slice(user, user + 1)
        return UserWatches(
            item_ids=self.vocabulary.item_ids(watches.rows.tolist()),
            weights=watches.weights.tolist(),
            timestamps=watches.timestamps.tolist(),
        )


def read_interactions(path: Path, *, vocabulary_size: int, min_item_count: int) -> Interactions:
    """Read a log and keep the watches of its `vocabulary_size` most frequent items, of those with `min_item_count`.

    Ids are text of any form; integers are turned into text. A timestamp is seconds since 1970, whole or not, or ISO
    8601 text, in UTC where it names no zone. Raises InteractionLogError that names the file, the column and the first
    offending line.
    """
    table = InputTable.read(path)
    watches = pl.DataFrame(
        {
            "user_id": table.text("user_id"),
            "item_id": table.text("item_id"),
            "microseconds": read_microseconds(table),
            "weight": _weights(table),
        }
    )
    item_ids = _most_frequent(watches, vocabulary_size=vocabulary_size, min_item_count=min_item_count)
    if not len(item_ids):
        raise InteractionLogError(f"{path}: column item_id: no item stands in it {min_item_count} times or more")
    watches = watches.join(_numbered(item_ids, "row"), on="item_id", how="inner", maintain_order="left")
    user_ids = watches["user_id"].unique(maintain_order=True)
    watches = watches.join(_numbered(user_ids, "user"), on="user_id", how="inner", maintain_order="left")
    watches = watches.sort("user", "microseconds", maintain_order=True)
    lengths = np.bincount(watches["user"].to_numpy(), minlength=len(user_ids))
    histories = WatchHistories.from_lengths(
        watches["row"].cast(pl.Int32).to_numpy(),
        lengths,
        watches["weight"].to_numpy(),
        (watches["microseconds"] // MICROSECONDS_A_SECOND).to_numpy(),
    )
    digest = hashlib.sha256()
    for ids in (item_ids, user_ids):
        for id_ in ids:
            digest.update(id_.encode() + b"\0")
    for array in (histories.rows, histories.offsets, histories.timestamps, histories.weights):
        digest.update(np.ascontiguousarray(array).tobytes())
    return Interactions(
        vocabulary=Vocabulary(item_ids.to_list()),
        user_ids=user_ids.to_list(),
        histories=histories,
        fingerprint=digest.hexdigest(),
    )


def _most_frequent(watches: pl.DataFrame, *, vocabulary_size: int, min_item_count: int) -> pl.Series:
    """The item ids by falling frequency; of equally frequent ones, the smaller text comes first."""
    counts = watches.group_by("item_id").len().filter(pl.col("len") >= min_item_count)
    return counts.sort("len", "item_id", descending=[True, False]).head(vocabulary_size)["item_id"]


def _numbered(ids: pl.Series, name: str) -> pl.DataFrame:
    return ids.to_frame().with_row_index(name)


def _weights(table: InputTable) -> pl.Series:
    if "weight" not in table.columns:
        return pl.repeat(1.0, table.height, dtype=pl.Float32, eager=True)
    column = table.column("weight")
    weights = column.cast(pl.Float32, strict=False)
    table.check("weight", weights.is_finite() & (weights >= 0), "has to be a number of at least 0")
    return weights


def read_microseconds(table: InputTable, name: str = "timestamp", *, optional: bool = False) -> pl.Series:
    """Return a column of times in microseconds since 1970; null where `optional` and empty.

    Raises InteractionLogError that names the first line that is no time.
    """
    column = table.column(name)
    if column.dtype.is_temporal():
        if column.dtype not in (pl.Date, pl.Datetime):
            raise InteractionLogError(f"{table.path}: column {name} has the type {column.dtype}: a date is needed")
        microseconds = column.cast(pl.Datetime("us")).dt.epoch("us")
    else:
        microseconds = _parsed(column)
    limit = TIMESTAMP_LIMIT_SECONDS * MICROSECONDS_A_SECOND
    valid = microseconds.is_between(-limit, limit)
    table.check(
        name,
        valid | column.is_null() if optional else valid,
        "has to be seconds since 1970 or ISO 8601 text, before the year 10000",
    )
    return microseconds


def _parsed(column: pl.Series) -> pl.Series:
    """Numbers, or text that is a number or ISO 8601, as microseconds; null where it is neither."""
    numbers = column.cast(pl.Float64, strict=False)
    # Float64 holds microseconds of this century to the last one; the limit keeps the rest out of int64's overflow.
    numbers = numbers.set(~numbers.is_finite() | (numbers.abs() > TIMESTAMP_LIMIT_SECONDS), TIMESTAMP_LIMIT_SECONDS + 1)
    microseconds = (numbers * MICROSECONDS_A_SECOND).round().cast(pl.Int64)
    if column.dtype != pl.String or not microseconds.null_count():
        return microseconds
    texts = column.filter(microseconds.is_null() & column.is_not_null()).unique()
    parsed = pl.DataFrame({"text": texts, "parsed": [_iso_microseconds(text) for text in texts]},
                          schema={"text": pl.String, "parsed": pl.Int64})  # fmt: skip
    joined = column.rename("text").to_frame().join(parsed, on="text", how="left", maintain_order="left")
    return joined.select(pl.coalesce(microseconds.rename("microseconds"), pl.col("parsed"))).to_series()


def _iso_microseconds(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * MICROSECONDS_A_SECOND)
