"""Input files, read so that an error names the file, the column and the line."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Self

import polars as pl

from winnow.catalogue.vocabulary import MAX_ITEM_ID_BYTES
from winnow.logs.file_formats import BLOCK, WHOLE_FILE, BlockSize, FileContent, InputFileError, read_blocks
from winnow.logs.skipped_rows import SHOWN_ROWS, RowsRead, SkippedRows

__all__ = ["InputFileError", "InputTable"]

LONGEST_SHOWN_VALUE = 80
NO_NAMES: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True, eq=False)
class InputTable:
    """A file in memory, with at least one row, or a block of it. All columns of delimited text are text.

    Columns are asked for by the name that they have in docs/training.md. Upper and lower case, and blanks, dashes and
    underscores, are the same in the file's own names, and `names` are those that are quite different.
    """

    path: Path
    content: FileContent
    names: Mapping[str, str] = field(default_factory=dict)
    skipped: SkippedRows | None = None
    """Collects the rows that cannot be used; None makes the first one an error."""

    @classmethod
    def read(cls, path: Path, names: Mapping[str, str] = NO_NAMES, *, skip_bad_rows: bool = False) -> Self:
        """Read a file, see `read_file`. Raises InputFileError where it cannot be read or has no rows."""
        [table] = cls.blocks(path, names, skip_bad_rows=skip_bad_rows, size=WHOLE_FILE)
        return table

    @classmethod
    def blocks(
        cls, path: Path, names: Mapping[str, str] = NO_NAMES, *, skip_bad_rows: bool = False, size: BlockSize = BLOCK
    ) -> Iterator[Self]:
        """Read a file block by block. One of lines that are no record has no rows, and no columns.

        Raises InputFileError where the file cannot be read or has no rows.
        """
        row_count = 0
        for content in read_blocks(path, skip_malformed=skip_bad_rows, size=size):
            row_count += content.frame.height
            if row_count or content.malformed:
                skipped = SkippedRows(content.frame.height) if skip_bad_rows else None
                yield cls(path=path, content=content, names=names, skipped=skipped)
        if not row_count:
            raise InputFileError(f"{path} has no rows")

    @property
    def frame(self) -> pl.DataFrame:
        """The columns as they are in the file."""
        return self.content.frame

    def find(self, name: str) -> str | None:
        """Return what the file calls a column; None where it has no such column."""
        name = self.names.get(name, name)
        if name in self.frame.columns:
            return name
        alike = [column for column in self.frame.columns if _plain(column) == _plain(name)]
        if len(alike) > 1:
            raise InputFileError(f"{self.path}: {' and '.join(map(repr, alike))} could both be the column {name}")
        return alike[0] if alike else None

    def column(self, name: str) -> pl.Series:
        """Return a column. Raises InputFileError where it is missing."""
        found = self.find(name)
        if found is None:
            name = self.names.get(name, name)
            raise InputFileError(f"{self.path}: column {name} is missing; the file has {', '.join(self.frame.columns)}")
        return self.frame[found]

    def text(self, name: str) -> pl.Series:
        """Return a column as text. Raises InputFileError where it is missing, of another type or has an empty value."""
        column = self.column(name)
        self.check_type(column, [pl.String, pl.Categorical, pl.Enum, pl.Boolean, pl.Null], "text")
        text = column.cast(pl.String)
        self.check(name, text.is_not_null() & (text != ""), "must not be empty")
        return text

    def item_ids(self) -> pl.Series:
        """Return the column item_id. Raises InputFileError where it is missing or has an empty or too long value."""
        ids = self.text("item_id")
        self.check("item_id", ids.str.len_bytes() <= MAX_ITEM_ID_BYTES, f"is longer than {MAX_ITEM_ID_BYTES} bytes")
        return ids

    def numbers(self, name: str, *, optional: bool = False) -> pl.Series:
        """Return a column as float32; with `optional`, null where it is empty.

        Raises InputFileError where it is missing or has a value that is not a finite number, 0 or more.
        """
        column = self.column(name)
        self.check_type(column, [pl.String, pl.Boolean, pl.Null], "a number")
        numbers = column.cast(pl.Float32, strict=False)
        valid = numbers.is_finite() & (numbers >= 0)
        self.check(name, valid | column.is_null() if optional else valid, "must be a number, 0 or more")
        return numbers

    def check_type(self, column: pl.Series, types: Sequence[type[pl.DataType]], wanted: str) -> None:
        """Raise InputFileError unless a column has one of the types, or one of numbers: Parquet has many others."""
        if not (column.dtype.is_numeric() or column.dtype in types):
            found = _shortened(str(column.dtype))
            raise InputFileError(f"{self.path}: column {column.name} has the type {found}, not {wanted}")

    def check(self, name: str, valid: pl.Series, requirement: str) -> None:
        """Raise InputFileError that names the first line where `valid` (bool; null is False) does not hold.

        Where bad rows are skipped, these are, and their values in what was read mean nothing.
        """
        offending = (~valid.fill_null(value=False)).arg_true().to_numpy()
        if not len(offending):
            return
        if self.skipped is None:
            row = int(offending[0])
            raise self.error(name, row, self._wrong(name, row, requirement))
        self.skipped.add(
            offending,
            [f"column {self.column(name).name}: {self._wrong(name, row, requirement)}"
             for row in offending[:SHOWN_ROWS].tolist()],
        )  # fmt: skip

    def usable(self, read: pl.DataFrame) -> tuple[pl.DataFrame, RowsRead]:
        """Return the rows of what was read that can be used, and what became of the others."""
        row_count = self.frame.height + len(self.content.malformed)
        if self.skipped is None:
            return read, RowsRead(row_count=row_count)
        usable = read.filter(pl.Series(self.skipped.usable))
        rows = RowsRead(
            row_count=row_count,
            skipped_count=row_count - usable.height,
            first_skipped=self.skipped.first(self.content),
        )
        return usable, rows

    def error(self, name: str, row: int, reason: str) -> InputFileError:
        """The error that says what is wrong with the value of a column in a row of the frame."""
        [place] = self.content.places([row])
        return InputFileError(f"{self.path}: column {self.find(name) or name}, {place}: {reason}")

    def _wrong(self, name: str, row: int, requirement: str) -> str:
        column = self.column(name)
        # Parquet has dates that Python has not.
        found = (column.to_physical() if column.dtype.is_temporal() else column)[row]
        if found is None:
            return "the value is missing"
        return f"{_shortened(repr(found))} {requirement}"


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN_VALUE else f"{text[:LONGEST_SHOWN_VALUE]}..."


def _plain(name: str) -> str:
    """How names of columns are compared."""
    return re.sub(r"[\s_-]+", "_", name.strip()).casefold()
