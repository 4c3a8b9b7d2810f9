"""Reads an impression log: CSV or Parquet with user_id, item_id, timestamp, clicked, watch_seconds.

Shape legend: N impressions.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from winnow.contexts import RequestContexts
from winnow.history import RaggedRows, WatchHistories
from winnow.logs.input_table import InputTable, InteractionLogError
from winnow.logs.interactions import MICROSECONDS_A_SECOND, Interactions, read_microseconds

# Earlier impressions without a click that a request tells of, the latest ones.
UNCLICKED_LIMIT = 10
TRUTH = {"true": True, "false": False, "1": True, "0": False}


@dataclass(frozen=True, kw_only=True, eq=False)
class Impressions:
    """N impressions in time order: what was shown to whom, and what came of it.

    `rows` is int32, `timestamps` int64 in seconds since 1970, `clicked` bool, `watch_seconds` float32, 0 unless
    clicked. `users`, int64, numbers those of the log. What the user had watched and been shown before are stretches of
    `watches.rows` and of `unclicked_rows`: so many elements from such a position on, int64 [N] each.
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

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, chosen: NDArray[np.int64] | slice) -> Self:
        """Some of the impressions."""
        per_impression = ("users", "rows", "timestamps", "clicked", "watch_seconds", "history_begins",
                          "history_lengths", "unclicked_begins", "unclicked_lengths")  # fmt: skip
        kept = {name: getattr(self, name)[chosen] for name in per_impression}
        return type(self)(
            **kept, watches=self.watches, unclicked_rows=self.unclicked_rows, fingerprint=self.fingerprint
        )

    def histories(self, limit: int | None) -> WatchHistories:
        """The latest `limit` watches of each impression's user before it."""
        lengths = self.history_lengths if limit is None else np.minimum(self.history_lengths, limit)
        return self.watches.take(self.history_begins + self.history_lengths - lengths, lengths)

    def contexts(self) -> RequestContexts:
        """What a caller would have known of a request for each impression."""
        lengths = np.minimum(self.unclicked_lengths, UNCLICKED_LIMIT)
        shown = RaggedRows(self.unclicked_rows, np.array([0, len(self.unclicked_rows)]))
        return RequestContexts(
            self.timestamps, shown.take(self.unclicked_begins + self.unclicked_lengths - lengths, lengths)
        )

    def candidates(self) -> RaggedRows:
        """One list an impression: the item that was shown."""
        return RaggedRows(self.rows, np.arange(len(self.rows) + 1))


@dataclass(frozen=True, kw_only=True, eq=False)
class TimeSplit:
    """Impressions by time: the last ones are the test, those before them the validation, the rest is trained on."""

    training: Impressions
    validation: Impressions
    test: Impressions

    @classmethod
    def of(cls, impressions: Impressions, *, validation_share: float, test_share: float) -> Self:
        """Split where so large shares of the impressions are later. One second never falls into two parts."""
        count = len(impressions)
        cuts = [count - round(count * (validation_share + test_share)), count - round(count * test_share)]
        first, second = (
            int(np.searchsorted(impressions.timestamps, impressions.timestamps[min(cut, count - 1)])) for cut in cuts
        )
        return cls(
            training=impressions.take(slice(0, first)),
            validation=impressions.take(slice(first, second)),
            test=impressions.take(slice(second, count)),
        )


def read_impressions(path: Path, interactions: Interactions) -> Impressions:
    """Read a log of impressions; what each user watched before one is looked up in `interactions`.

    Impressions of items outside the vocabulary are left out. What a user watched in the very second of an impression,
    or was shown in it, does not count as before it: it may have come of it. Raises InteractionLogError that names the
    file, the column and the first offending line.
    """
    table = InputTable.read(path)
    clicked = table.text("clicked").str.to_lowercase().replace_strict(TRUTH, default=None, return_dtype=pl.Boolean)
    table.check("clicked", clicked.is_not_null(), "has to be true or false, or 1 or 0")
    seconds = table.column("watch_seconds").cast(pl.Float32, strict=False)
    table.check("watch_seconds", seconds.is_finite() & (seconds >= 0), "has to be a number of at least 0")
    logged = pl.DataFrame(
        {
            "user_id": table.text("user_id"),
            "item_id": table.text("item_id"),
            "seconds": read_microseconds(table) // MICROSECONDS_A_SECOND,
            "clicked": clicked,
            "watch_seconds": seconds,
        }
    )
    item_ids = pl.Series("item_id", interactions.vocabulary.item_ids(range(len(interactions.vocabulary))))
    logged = logged.join(item_ids.to_frame().with_row_index("row"), on="item_id", how="inner", maintain_order="left")
    if not logged.height:
        raise InteractionLogError(f"{path}: column item_id: no item of it stands in the interaction log")
    # Users without any watch get the numbers behind those of the interaction log.
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
    impressions = Impressions(
        users=users,
        rows=rows,
        timestamps=timestamps,
        clicked=clicks,
        watch_seconds=logged["watch_seconds"].to_numpy() * clicks,
        watches=watches,
        history_begins=history_begins,
        history_lengths=history_lengths,
        unclicked_rows=rows[shown],
        unclicked_begins=unclicked_begins,
        unclicked_lengths=unclicked_lengths,
        fingerprint="",
    )
    digest = hashlib.sha256(interactions.fingerprint.encode())
    for array in (users, rows, timestamps, clicks, impressions.watch_seconds):
        digest.update(np.ascontiguousarray(array).tobytes())
    return replace(impressions, fingerprint=digest.hexdigest())


def _stretches_before(
    of_events: NDArray[np.int64], times: NDArray[np.int64], users: NDArray[np.int64], before: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the events of `users[i]` before `before[i]`, of all events by user and time: the first, and how many."""
    begins = np.searchsorted(of_events, users)
    # A user and a time as one number; times count from the earliest.
    earliest = min(times.min(initial=before.min()), before.min())
    span = max(times.max(initial=before.max()), before.max()) - earliest + 1
    ends = np.searchsorted(of_events * span + (times - earliest), users * span + (before - earliest))
    return begins, ends - begins
