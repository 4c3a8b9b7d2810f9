"""Reads an impression log, with user_id, item_id, timestamp, clicked, watch_seconds.

Shape legend: N impressions.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from winnow.contexts import RequestContexts
from winnow.history import LONGEST_WATCH_SECONDS, RaggedRows, WatchHistories
from winnow.logs.fingerprint import fingerprint
from winnow.logs.input_table import InputFileError, InputTable
from winnow.logs.interactions import Interactions
from winnow.logs.log_format import PLAIN_LOG, LogFormat
from winnow.logs.skipped_rows import RowsRead
from winnow.logs.timestamps import MICROSECONDS_PER_SECOND, read_microseconds
from winnow.logs.watches import check_columns

# A request names at most this many earlier impressions without a click, the latest ones.
UNCLICKED_LIMIT = 10
BOOLEANS = {"true": True, "false": False, "1": True, "0": False}


@dataclass(frozen=True, kw_only=True, eq=False)
class Impressions:
    """N impressions in time order: which item was shown to which user, and whether it was watched.

    All arrays are [N]: `users` int64, `rows` int32, `timestamps` int64 in seconds since 1970, `clicked` bool,
    `watch_seconds` float32, 0 unless clicked. What the user had watched before impression n is a slice of `watches`: it
    begins at `history_begins[n]` and has `history_lengths[n]` elements, both int64. Earlier impressions without a click
    are a slice of `unclicked_rows` likewise. `fingerprint` is a SHA-256 of this log and of the interaction log.
    `rows_read` says what became of the rows of the file.
    """

    users: NDArray[np.int64]
    rows: NDArray[np.int32]
    timestamps: NDArray[np.int64]
    clicked: NDArray[np.bool_]
    watch_seconds: NDArray[np.float32]
    watches: WatchHistories
    history_begins: NDArray[np.int64]
    history_lengths: NDArray[np.int64]
    unclicked_rows: NDArray[np.int32]
    unclicked_begins: NDArray[np.int64]
    unclicked_lengths: NDArray[np.int64]
    fingerprint: str
    rows_read: RowsRead

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, chosen: NDArray[np.int64] | slice) -> Self:
        """Select some of the impressions."""
        per_impression = ("users", "rows", "timestamps", "clicked", "watch_seconds", "history_begins",
                          "history_lengths", "unclicked_begins", "unclicked_lengths")  # fmt: skip
        return replace(self, **{name: getattr(self, name)[chosen] for name in per_impression})

    def histories(self, limit: int | None) -> WatchHistories:
        """Return what the user had watched before each impression, the latest `limit` watches."""
        lengths = self.history_lengths if limit is None else np.minimum(self.history_lengths, limit)
        return self.watches.take(self.history_begins + self.history_lengths - lengths, lengths)

    def contexts(self) -> RequestContexts:
        """Return what a caller would have known when each impression was requested."""
        lengths = np.minimum(self.unclicked_lengths, UNCLICKED_LIMIT)
        shown = RaggedRows(self.unclicked_rows, np.array([0, len(self.unclicked_rows)]))
        return RequestContexts(
            self.timestamps, shown.take(self.unclicked_begins + self.unclicked_lengths - lengths, lengths)
        )

    def candidates(self) -> RaggedRows:
        """Return the item that was shown as a list of one, for each impression."""
        return RaggedRows(self.rows, np.arange(len(self.rows) + 1))


def read_impressions(path: Path, interactions: Interactions, log_format: LogFormat = PLAIN_LOG) -> Impressions:
    """Read a log of impressions, and look up in `interactions` what each user had watched before.

    Impressions of items outside the vocabulary are left out. A watch or another impression in the same second does not
    count as earlier: it may be a consequence. Raises InputFileError that names the file, the column and the first line
    at fault.
    """
    table = InputTable.read(path, log_format.column_names, skip_bad_rows=log_format.skip_bad_rows)
    check_columns(table)
    clicked = table.text("clicked").str.to_lowercase().replace_strict(BOOLEANS, default=None, return_dtype=pl.Boolean)
    watch_seconds = table.numbers("watch_seconds")
    table.check("watch_seconds", watch_seconds <= LONGEST_WATCH_SECONDS, "is more than a week")
    table.check("clicked", clicked.is_not_null(), "must be true, false, 1 or 0")
    logged = pl.DataFrame(
        {
            "user_id": table.text("user_id"),
            "item_id": table.item_ids(),
            "seconds": read_microseconds(table, unit=log_format.time_unit) // MICROSECONDS_PER_SECOND,
            "clicked": clicked,
            "watch_seconds": watch_seconds,
        }
    )
    logged, rows_read = table.usable(logged)
    item_ids = pl.Series("item_id", interactions.vocabulary.item_ids(range(len(interactions.vocabulary))))
    logged = logged.join(item_ids.to_frame().with_row_index("row"), on="item_id", how="inner", maintain_order="left")
    if not logged.height:
        raise InputFileError(f"{path}: column item_id: no item occurs in the interaction log")
    # Users without a watch get the numbers after those of the interaction log.
    user_ids = pl.concat([pl.Series("user_id", interactions.user_ids), logged["user_id"]]).unique(maintain_order=True)
    logged = logged.join(user_ids.to_frame().with_row_index("user"), on="user_id", how="inner", maintain_order="left")
    logged = logged.sort("seconds", maintain_order=True)
    users = logged["user"].cast(pl.Int64).to_numpy(writable=True)
    timestamps = logged["seconds"].to_numpy(writable=True)
    rows = logged["row"].cast(pl.Int32).to_numpy(writable=True)
    clicks = logged["clicked"].to_numpy(writable=True)
    watches = interactions.histories
    of_watch = np.repeat(np.arange(len(watches)), watches.lengths)
    history_begins, history_lengths = _stretches_before(of_watch, watches.timestamps, users, timestamps)
    shown = np.flatnonzero(~clicks)
    shown = shown[np.argsort(users[shown], kind="stable")]
    unclicked_begins, unclicked_lengths = _stretches_before(users[shown], timestamps[shown], users, timestamps)
    seconds_watched = logged["watch_seconds"].to_numpy() * clicks
    return Impressions(
        users=users,
        rows=rows,
        timestamps=timestamps,
        clicked=clicks,
        watch_seconds=seconds_watched,
        watches=watches,
        history_begins=history_begins,
        history_lengths=history_lengths,
        unclicked_rows=rows[shown],
        unclicked_begins=unclicked_begins,
        unclicked_lengths=unclicked_lengths,
        fingerprint=fingerprint(interactions.fingerprint.encode(), users, rows, timestamps, clicks, seconds_watched),
        rows_read=rows_read,
    )


def _stretches_before(
    of_events: NDArray[np.int64], times: NDArray[np.int64], users: NDArray[np.int64], before: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the position of each user's first event, and how many events that user has before `before`.

    Events are sorted by user and time: `of_events` are their users, `times` their times. All are int64.
    """
    begins = np.searchsorted(of_events, users)
    # One number for a user and a time; times count from the earliest.
    earliest = min(times.min(initial=before.min()), before.min())
    span = max(times.max(initial=before.max()), before.max()) - earliest + 1
    ends = np.searchsorted(of_events * span + (times - earliest), users * span + (before - earliest))
    return begins, ends - begins
