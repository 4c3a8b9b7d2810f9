"""Reads the rows of an interaction log: one file, or a folder of the parts of a log that is larger than memory."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Protocol, Self

import polars as pl

from winnow.logs.file_formats import BLOCK, BlockSize
from winnow.logs.input_table import InputFileError, InputTable
from winnow.logs.log_format import PLAIN_LOG, LogFormat, Ties
from winnow.logs.part_counts import COUNTS_FILE, read_part_counts
from winnow.logs.parts import files_of_part, part_folders, part_name, parts_of_rank
from winnow.logs.skipped_rows import RowsRead
from winnow.logs.timestamps import read_microseconds

LOG_ROW = "log_row"
"""The column that says in which order the rows of all parts were in the log that they were made from."""
# Where no column says it, the rows of a part are numbered from its number times this, which is more than it has rows.
ROWS_PER_PART = 2**40
# Of items in parts, before they are added up.
COUNTS_AT_ONCE = 5_000_000
SCHEMA = pl.Schema({"user_id": pl.String, "item_id": pl.String, "microseconds": pl.Int64, "weight": pl.Float32})


class WatchPart(Protocol):
    """All watches of some users."""

    @property
    def number(self) -> int:
        """Which of the parts of the log it is."""

    def read(self) -> pl.DataFrame:
        """Return user_id, item_id, microseconds since 1970, weight and LOG_ROW, which rises."""


@dataclass(frozen=True, kw_only=True, eq=False)
class WatchTable:
    """The watches of a log, or of some of its users. A user's are all in one part.

    A log that fits into memory is one part.
    """

    path: Path
    parts: Sequence[WatchPart]
    rows: RowsRead
    item_counts: pl.DataFrame
    """The watches of each item: item_id and len. Of one table, in the order in which items first appear in it."""
    ties: Ties

    @classmethod
    def of(
        cls,
        path: Path,
        read: Iterable[tuple[WatchPart, pl.DataFrame, RowsRead]],
        ties: Ties,
        look: Callable[[pl.DataFrame], None],
    ) -> Self:
        """Count while the parts are read for the first time; `look` is shown each of them."""
        parts: list[WatchPart] = []
        rows = RowsRead(row_count=0)
        counts: list[pl.DataFrame] = []
        for part, frame, of_part in read:
            parts.append(part)
            look(frame)
            repeated_count = frame.height - frame.n_unique(["user_id", "item_id", "microseconds"])
            rows = rows.and_then(replace(of_part, repeated_count=repeated_count))
            counts.append(frame.group_by("item_id").agg(pl.len(), pl.col(LOG_ROW).first().alias("first")))
            if sum(map(len, counts[1:])) > COUNTS_AT_ONCE:
                counts = [_added(counts)]
        return cls(
            path=path,
            parts=parts,
            rows=rows,
            item_counts=_added(counts).sort("first").select("item_id", "len"),
            ties=ties,
        )

    def checked(self) -> Self:
        """Return the table. Raises InputFileError where it has no watches."""
        if not self.watch_count:
            raise InputFileError(f"{self.path}: no row can be used; {self.rows.first_skipped[0]}")
        return self

    def with_others(self, rows: Sequence[RowsRead], item_counts: Sequence[pl.DataFrame]) -> Self:
        """Return a table that counts the watches of several tables of a log, but has the parts of this one."""
        return replace(
            self,
            rows=reduce(RowsRead.and_then, rows),
            item_counts=pl.concat(item_counts).group_by("item_id").agg(pl.col("len").sum()),
        ).checked()

    @property
    def watch_count(self) -> int:
        """All watches."""
        return self.rows.row_count - self.rows.skipped_count

    def frames(self) -> Iterator[pl.DataFrame]:
        """Read part after part."""
        for part in self.parts:
            yield part.read()


def _added(counts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    if len(counts) == 1:
        return counts[0]
    return pl.concat(counts).group_by("item_id").agg(pl.col("len").sum(), pl.col("first").min())


@dataclass(frozen=True, eq=False)
class _InMemory:
    frame: pl.DataFrame
    number: int = 0

    def read(self) -> pl.DataFrame:
        return self.frame


def read_watches(
    path: Path,
    log_format: LogFormat = PLAIN_LOG,
    size: BlockSize = BLOCK,
    *,
    look: Callable[[pl.DataFrame], None] = lambda _: None,
    share: tuple[int, int] | None = None,
) -> WatchTable:
    """Read the watches of all items from a file, or from a folder of parts (docs/large-logs.md).

    `look` is shown the watches of each part while they are in memory. `share` says which rank reads, and how many
    there are: each reads the parts of `parts_of_rank`, in which there may be no watch that can be used.

    Ids are text; integers are converted. A timestamp is seconds since 1970 (or the format's unit), with or without a
    fraction, or ISO 8601 text, in UTC unless it names a zone. Raises InputFileError that names the file, the column and
    the first line at fault, and where ranks share a file, or fewer parts than there are ranks.
    """
    if path.is_dir():
        table = WatchTable.of(path, _read_folder(path, log_format, size, share or (0, 1)), log_format.ties, look)
        return table if share else table.checked()
    if share:
        raise InputFileError(f"{path}: several processes share a log in parts, which `winnow data parts` makes of it")
    frames, rows = [], RowsRead(row_count=0)
    for frame, of_block in watch_blocks(path, log_format, size):
        frames.append(frame)
        rows = rows.and_then(of_block)
    frame = pl.concat(frames).with_row_index(LOG_ROW).cast({LOG_ROW: pl.Int64})
    return WatchTable.of(path, [(_InMemory(frame), frame, rows)], log_format.ties, look).checked()


def first_block(path: Path, log_format: LogFormat = PLAIN_LOG) -> InputTable:
    """Return the first rows of a log as they are in the file. Raises InputFileError as `read_watches` does."""
    if path.is_dir():
        path = next(iter(_files_of_parts(path).values()))[0]
    return next(InputTable.blocks(path, log_format.column_names, skip_bad_rows=True))


class OptionalColumns:
    """Which optional columns the files of one log have: all files the same ones."""

    def __init__(self, *names: str) -> None:
        self._names = names
        self._first: tuple[Path, set[str]] | None = None

    def check(self, table: InputTable) -> None:
        """Raise InputFileError where the file of a table has other ones than the first file."""
        if not table.frame.height:
            return
        found = {name for name in self._names if table.find(name) is not None}
        first, expected = self._first = self._first or (table.path, found)
        for name in sorted(found ^ expected):
            without, with_it = (first, table.path) if name in found else (table.path, first)
            raise InputFileError(f"{without}: column {name} is missing, which {with_it} has")


def watch_blocks(
    path: Path, log_format: LogFormat = PLAIN_LOG, size: BlockSize = BLOCK, optional: OptionalColumns | None = None
) -> Iterator[tuple[pl.DataFrame, RowsRead]]:
    """Yield the watches of a file block by block, with SCHEMA, and what became of the rows.

    Raises InputFileError as `read_watches` does; with `optional`, which all files of a log share, also where one has a
    column that another has not.
    """
    for table in InputTable.blocks(path, log_format.column_names, skip_bad_rows=log_format.skip_bad_rows, size=size):
        if optional is not None:
            optional.check(table)
        yield table.usable(_watches_of(table, log_format))


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


def _watches_of(table: InputTable, log_format: LogFormat) -> pl.DataFrame:
    if not table.frame.height:
        return pl.DataFrame(schema=SCHEMA)
    check_columns(table, times=not log_format.no_times)
    untimed = pl.repeat(0, table.frame.height, dtype=pl.Int64, eager=True)
    return pl.DataFrame(
        {
            "user_id": table.text("user_id"),
            "item_id": table.item_ids(),
            "microseconds": untimed if log_format.no_times else read_microseconds(table, unit=log_format.time_unit),
            "weight": _weights(table, log_format),
        }
    )


def _weights(table: InputTable, log_format: LogFormat) -> pl.Series:
    # A column that was named has to be there.
    if table.find("weight") is not None or log_format.weight_column != "weight":
        return table.numbers("weight")
    return pl.repeat(1.0, table.frame.height, dtype=pl.Float32, eager=True)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Folder:
    """A part on disk. Without a column LOG_ROW, its rows are in the order of the names of the files."""

    log: Path
    number: int
    files: Sequence[Path]
    log_format: LogFormat
    size: BlockSize
    row_count: int | None
    """As its writer has counted; None where it has not."""
    optional: OptionalColumns

    def read(self) -> pl.DataFrame:
        return self.read_with_rows()[0]

    def read_with_rows(self) -> tuple[pl.DataFrame, RowsRead]:
        folder = self.files[0].parent
        frames, rows = [], RowsRead(row_count=0)
        for file in self.files:
            for frame, of_block in self._blocks(file):
                frames.append(frame)
                reasons = [f"{file.relative_to(self.log)}, {reason}" for reason in of_block.first_skipped]
                rows = rows.and_then(replace(of_block, first_skipped=reasons))
        if self.row_count not in (None, rows.row_count):
            raise InputFileError(
                f"{folder} has {rows.row_count:,} rows, not {self.row_count:,} as when it was written ({COUNTS_FILE})"
            )
        frame = pl.concat(frames)
        if LOG_ROW not in frame.columns:
            numbers = pl.int_range(pl.len(), dtype=pl.Int64).alias(LOG_ROW) + self.number * ROWS_PER_PART
            return frame.with_columns(numbers), rows
        frame = frame.sort(LOG_ROW, maintain_order=True)
        repeated = frame.filter(pl.col(LOG_ROW).diff() == 0)[LOG_ROW]
        if len(repeated):
            raise InputFileError(f"{folder}: two rows have the {LOG_ROW} {repeated[0]}: is a file there twice?")
        return frame, rows

    def _blocks(self, file: Path) -> Iterator[tuple[pl.DataFrame, RowsRead]]:
        names, skip_bad_rows = self.log_format.column_names, self.log_format.skip_bad_rows
        for table in InputTable.blocks(file, names, skip_bad_rows=skip_bad_rows, size=self.size):
            self.optional.check(table)
            frame = _watches_of(table, self.log_format)
            if table.find(LOG_ROW) is not None:
                found = table.column(LOG_ROW)
                table.check_type(found, [pl.Null], "an integer")
                log_row = found.cast(pl.Int64, strict=False)
                table.check(LOG_ROW, log_row.is_not_null() & (log_row == found), "must be an integer")
                frame = frame.with_columns(log_row.alias(LOG_ROW))
            yield table.usable(frame)


def _files_of_parts(log: Path) -> dict[int, list[Path]]:
    found = {number: files_of_part(folder) for number, folder in part_folders(log).items()}
    if not found:
        raise InputFileError(f"{log} is a folder without parts, which `winnow data parts` makes of a log")
    return found


def _read_folder(
    log: Path, log_format: LogFormat, size: BlockSize, share: tuple[int, int]
) -> Iterator[tuple[WatchPart, pl.DataFrame, RowsRead]]:
    found = _files_of_parts(log)
    counts = read_part_counts(log)
    for number in sorted((counts or found).keys() ^ found.keys()):
        problem = "was not there when" if number in found else "is missing, which was there when"
        raise InputFileError(f"{log}: {part_name(number)} {problem} the parts were written ({COUNTS_FILE})")
    optional = OptionalColumns("weight", LOG_ROW)
    try:
        own = parts_of_rank(*share, len(found))
    except ValueError as error:
        raise InputFileError(f"{log}: {error}") from None
    numbers = list(found)
    for number in [numbers[position] for position in own]:
        part = _Folder(
            log=log,
            number=number,
            files=found[number],
            log_format=log_format,
            size=size,
            row_count=None if counts is None else counts[number],
            optional=optional,
        )
        yield part, *part.read_with_rows()
