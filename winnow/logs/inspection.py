"""What an interaction log looks like to somebody who wants to train on it, and what is likely to be wrong with it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple, Self

import polars as pl

from winnow.logs.interactions import select_interactions
from winnow.logs.items_file import items_table
from winnow.logs.log_format import PLAIN_LOG, LogFormat, TimeUnit
from winnow.logs.split import HELD_OUT_COUNT
from winnow.logs.statistics import LogStatistics
from winnow.logs.timestamps import MICROSECONDS_PER_SECOND, TIMESTAMP_LIMIT_SECONDS, likely_unit
from winnow.logs.watches import WatchTable, check_columns, first_block, read_watches

# Times of watches lie between these years; others are more likely in another unit.
FIRST_YEAR, LAST_YEAR = 1990, 2100
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST_MICROSECOND = TIMESTAMP_LIMIT_SECONDS * MICROSECONDS_PER_SECOND


@dataclass(frozen=True, kw_only=True)
class LogInspection:
    """What a log holds: counts, times and what they say about the order of watches."""

    watches: WatchTable
    log_format: LogFormat
    """As it was read: with the unit that the times are likely in."""
    given_format: LogFormat
    short_user_count: int
    """Users with too few watches for one to be held out."""
    first: datetime
    last: datetime
    rewatched_share: float
    """Of all watches: how many are of an item that the user has watched before."""
    in_time_order: bool
    """Whether each user's watches are in time order in the file."""
    statistics: LogStatistics
    """Of all watches."""

    def facts(self) -> Iterator[str]:
        """Describe the log, line by line."""
        span = "without times" if self.given_format.no_times else f"from {self.first:%Y-%m-%d} to {self.last:%Y-%m-%d}"
        yield f"{self.watches.rows.row_count:,} rows, {span}"
        yield from self.statistics.lines()
        if self.given_format.no_times:
            return
        if self.in_time_order:
            yield "each user's watches are in time order"
        else:
            yield "the rows are not in time order; they are sorted when they are read"

    def refusals(self) -> Iterator[str]:
        """Say for what training would refuse the log, read in the given format, and what helps."""
        unit = self.log_format.time_unit
        if unit != self.given_format.time_unit:
            yield f"the times look like {unit}: --time-unit {unit}"
        skipped = self.watches.rows.skipped_count
        if skipped and not self.given_format.skip_bad_rows:
            yield f"rows that cannot be read: {skipped:,}; --skip-bad-rows leaves them out. {self._first_skipped()}"

    def remarks(self) -> Iterator[str]:
        """Say what may surprise."""
        rows = self.watches.rows
        timed = not self.given_format.no_times
        if timed and not FIRST_YEAR <= self.first.year <= self.last.year < LAST_YEAR:
            yield f"the times are of the years {self.first.year} to {self.last.year}"
        if rows.skipped_count and self.given_format.skip_bad_rows:
            yield f"rows that cannot be read and are left out: {rows.skipped_count:,}. {self._first_skipped()}"
        if rows.repeated_count:
            yield f"rows that repeat the user, item and time of another row: {rows.repeated_count:,}; all of them count"
        tied_share = self.statistics.tied_share
        if timed and tied_share >= 0.01:
            yield (
                f"{tied_share:.0%} of the watches have the same time as the one before by their user: of those, only "
                "the order of the rows says what came first"
            )
        if self.rewatched_share >= 0.05:
            yield (
                f"{self.rewatched_share:.0%} of the watches are of an item that the user has watched before. Answers "
                "leave out what was watched, so no held-out watch of this kind is found, and figures are lower"
            )
        if self.short_user_count:
            yield (
                f"users with fewer than {HELD_OUT_COUNT + 1} watches, and none to hold out for validation and test: "
                f"{self.short_user_count:,}"
            )

    def _first_skipped(self) -> str:
        return "\n  ".join(["The first are:", *self.watches.rows.first_skipped])


def inspect_log(path: Path, log_format: LogFormat = PLAIN_LOG) -> LogInspection:
    """Read a log as far as that is possible: bad rows are skipped, and times in another unit are read as that.

    Raises InputFileError where nothing can be read.
    """
    likely = None if log_format.no_times else _likely_unit(path, log_format)
    read_format = replace(log_format, skip_bad_rows=True, time_unit=likely or log_format.time_unit)
    parts: list[_PartFacts] = []
    watches = read_watches(path, read_format, look=lambda frame: parts.append(_PartFacts.of(frame)))
    everything = select_interactions(watches, vocabulary_size=watches.watch_count, min_item_count=1)
    return LogInspection(
        watches=watches,
        log_format=read_format,
        given_format=log_format,
        short_user_count=sum(part.short_user_count for part in parts),
        first=EPOCH + timedelta(microseconds=min(part.first for part in parts)),
        last=EPOCH + timedelta(microseconds=max(part.last for part in parts)),
        rewatched_share=sum(part.rewatched_count for part in parts) / watches.watch_count,
        in_time_order=all(part.in_time_order for part in parts),
        statistics=LogStatistics.of(everything.histories, len(everything.vocabulary)),
    )


def _likely_unit(path: Path, log_format: LogFormat) -> TimeUnit | None:
    """Guess the unit of the times in the first block of a log."""
    first = first_block(path, log_format)
    if not first.frame.height:
        return None
    check_columns(first)
    return likely_unit(first.column("timestamp"))


class _PartFacts(NamedTuple):
    """What the watches of some users say."""

    short_user_count: int
    first: int
    last: int
    rewatched_count: int
    in_time_order: bool

    @classmethod
    def of(cls, frame: pl.DataFrame) -> Self:
        times = frame["microseconds"]
        goes_back = (pl.col("microseconds").diff() < 0).any().alias("goes_back")
        users = frame.group_by("user_id").agg(pl.len(), goes_back)
        return cls(
            short_user_count=int((users["len"] <= HELD_OUT_COUNT).sum()),
            first=int(times.to_numpy().min(initial=LAST_MICROSECOND)),
            last=int(times.to_numpy().max(initial=-LAST_MICROSECOND)),
            rewatched_count=frame.height - frame.n_unique(["user_id", "item_id"]),
            in_time_order=not users["goes_back"].any(),
        )


@dataclass(frozen=True, kw_only=True)
class ItemsInspection:
    """How an items file and a log fit."""

    item_count: int
    """Of the items file."""
    unwatched: Sequence[str]
    """Ids of the items file that the log has no watch of."""
    undescribed: Sequence[str]
    """Ids of the log that are not in the items file."""


def inspect_items(path: Path, log: LogInspection) -> ItemsInspection:
    """Compare an items file with a log. Raises InputFileError where it cannot be read."""
    described = dict.fromkeys(items_table(path, log.log_format).item_ids())
    watched = dict.fromkeys(log.watches.item_counts["item_id"])
    return ItemsInspection(
        item_count=len(described),
        unwatched=[item_id for item_id in described if item_id not in watched],
        undescribed=[item_id for item_id in watched if item_id not in described],
    )
