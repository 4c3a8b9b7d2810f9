"""Makes the parts of a log that is larger than memory: checked as training checks it, then sorted by user."""

import errno
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import polars as pl

from winnow.locks import try_lock
from winnow.logs.file_formats import BLOCK, BlockSize
from winnow.logs.input_table import InputFileError
from winnow.logs.log_format import PLAIN_LOG, LogFormat
from winnow.logs.part_counts import COUNTS_FILE, write_part_counts
from winnow.logs.parts import DEFAULT_PART_COUNT, MOST_PARTS, part_name, parts_of_users
from winnow.logs.skipped_rows import RowsRead
from winnow.logs.watches import LOG_ROW, OptionalColumns, watch_blocks

# Rows that are collected before they are written, so that a part is few files.
BUFFERED_ROWS = 4_000_000
UNFINISHED = ".unfinished"


def write_parts(
    logs: Sequence[Path],
    target: Path,
    *,
    part_count: int = DEFAULT_PART_COUNT,
    log_format: LogFormat = PLAIN_LOG,
    size: BlockSize = BLOCK,
    buffered_rows: int = BUFFERED_ROWS,
) -> RowsRead:
    """Write the watches of one log, in one file or several, to the new folder `target`; return what became of the rows.

    The folder appears when it is complete. Raises InputFileError as `read_watches` does, ValueError for a number of
    parts that cannot be and for a target that exists, and OSError, which names the target, where it cannot be written.
    """
    if not 1 <= part_count <= MOST_PARTS:
        raise ValueError(f"a log has 1 to {MOST_PARTS} parts, not {part_count}")
    rows = RowsRead(row_count=0)
    optional = OptionalColumns("weight")
    with _new_folder(target) as folder:
        writer = _PartWriter(folder, part_count, with_times=not log_format.no_times)
        for log in logs:
            for frame, of_block in watch_blocks(log, log_format, size, optional):
                if len(logs) > 1:
                    reasons = [f"{log}, {reason}" for reason in of_block.first_skipped]
                    of_block = replace(of_block, first_skipped=reasons)
                rows = rows.and_then(of_block)
                writer.add(frame)
                if writer.buffered_count >= buffered_rows:
                    writer.flush()
        writer.flush()
        write_part_counts(folder, writer.part_counts)
        if not writer.row_count:
            raise InputFileError(f"{logs[0]}: no row can be used; {rows.first_skipped[0]}")
    return rows


class _PartWriter:
    def __init__(self, folder: Path, part_count: int, *, with_times: bool) -> None:
        self._folder = folder
        self._part_count = part_count
        self._with_times = with_times
        self._buffered: list[pl.DataFrame] = []
        self._flush_count = 0
        self.part_counts: Counter[int] = Counter()
        self.row_count = self.buffered_count = 0

    def add(self, frame: pl.DataFrame) -> None:
        """Take the next rows of the log."""
        users = frame["user_id"].unique()
        parts = pl.DataFrame({"user_id": users, "part": parts_of_users(users, self._part_count)})
        frame = frame.with_row_index(LOG_ROW).with_columns(pl.col(LOG_ROW).cast(pl.Int64) + self.row_count)
        self._buffered.append(frame.join(parts, on="user_id", how="left", maintain_order="left"))
        self.row_count += frame.height
        self.buffered_count += frame.height

    def flush(self) -> None:
        """Write what was taken, in the order of the log, to one file of each part."""
        if not self.buffered_count:
            return
        frame = pl.concat(self._buffered).select(
            "part",
            "user_id",
            "item_id",
            *([pl.from_epoch("microseconds", time_unit="us").alias("timestamp")] if self._with_times else []),
            "weight",
            LOG_ROW,
        )
        self._buffered.clear()
        for (part,), rows in frame.partition_by("part", as_dict=True, include_key=False).items():
            folder = self._folder / part_name(int(part))
            folder.mkdir(exist_ok=True)
            rows.write_parquet(folder / f"{self._flush_count:05d}.parquet")
            self.part_counts[int(part)] += rows.height
        self._flush_count += 1
        self.buffered_count = 0


def _system_error(error: pl.exceptions.PolarsError, target: Path) -> OSError:
    """Return the error of the operating system that polars names in its message."""
    number = re.search(r"\(os error (\d+)\)", str(error))
    code = errno.EIO if number is None else int(number[1])
    return OSError(code, os.strerror(code), str(target))


def _check_left(unfinished: Path) -> None:
    """Raise ValueError where a folder holds anything but what a process has left that was killed."""
    for left in unfinished.iterdir():
        if left.is_symlink() or not (left.name == COUNTS_FILE or (left.name.startswith("part=") and left.is_dir())):
            raise ValueError(f"{left} is in the way: it is not left of an earlier run, and would be removed")


@contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """Yield a folder beside the target that takes its place in the end; where it does not, it is removed."""
    if os.path.lexists(target):
        raise ValueError(f"{target} exists")
    unfinished = target.with_name(target.name + UNFINISHED)
    try:
        unfinished.mkdir(parents=True, exist_ok=True)
        with try_lock(unfinished) as free:
            if not free:
                raise ValueError(f"{target} is being written by another process")
            _check_left(unfinished)
            try:
                for left in unfinished.iterdir():
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
                yield unfinished
                unfinished.rename(target)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    except pl.exceptions.PolarsError as error:
        raise _system_error(error, target) from None
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error).splitlines()[0], str(target)) from None
