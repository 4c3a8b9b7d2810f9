"""Input files, read so that an error names the file, the column and the line."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import polars as pl

from winnow.catalogue.vocabulary import MAX_ITEM_ID_BYTES

LONGEST_SHOWN_VALUE = 80


class InputFileError(ValueError):
    """An input file cannot be used; the message names the file and, where they are known, the column and the line."""


@dataclass(frozen=True, kw_only=True, eq=False)
class InputTable:
    """A CSV or Parquet file in memory, with at least one row. All columns of a CSV file are text."""

    path: Path
    frame: pl.DataFrame

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a .csv or .parquet file. Raises InputFileError where it cannot be read or has no rows."""
        suffix = path.suffix.lower()
        if suffix not in (".csv", ".parquet"):
            raise InputFileError(f"{path}: the name must end in .csv or .parquet")
        try:
            frame = pl.read_csv(path, infer_schema=False) if suffix == ".csv" else pl.read_parquet(path)
        except pl.exceptions.NoDataError:
            raise InputFileError(f"{path} is empty") from None
        except (OSError, pl.exceptions.PolarsError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            if suffix == ".csv" and isinstance(error, pl.exceptions.ComputeError):
                reason = _first_malformed_line(path) or reason
            raise InputFileError(f"{path} cannot be read as {suffix[1:]}: {reason}") from None
        if not frame.height:
            raise InputFileError(f"{path} has no rows")
        return cls(path=path, frame=frame)

    def column(self, name: str) -> pl.Series:
        """Return a column. Raises InputFileError where it is missing."""
        if name not in self.frame.columns:
            raise InputFileError(f"{self.path}: column {name} is missing; the file has {', '.join(self.frame.columns)}")
        return self.frame[name]

    def text(self, name: str) -> pl.Series:
        """Return a column as text. Raises InputFileError where it is missing or has an empty value."""
        column = self.column(name)
        if column.dtype.is_nested() or column.dtype == pl.Binary:
            raise InputFileError(f"{self.path}: column {name} has the type {column.dtype}, not text")
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
        numbers = column.cast(pl.Float32, strict=False)
        valid = numbers.is_finite() & (numbers >= 0)
        self.check(name, valid | column.is_null() if optional else valid, "must be a number, 0 or more")
        return numbers

    def check(self, name: str, valid: pl.Series, requirement: str) -> None:
        """Raise InputFileError that names the first line where `valid` (bool; null is False) does not hold.

        Lines count from 1, the header of a CSV file included; in a Parquet file, rows count from 1.
        """
        offending = (~valid.fill_null(value=False)).arg_true()
        if len(offending):
            row = int(offending[0])
            value = repr(self.frame[name][row])
            shown = value if len(value) <= LONGEST_SHOWN_VALUE else f"{value[:LONGEST_SHOWN_VALUE]}..."
            raise self.error(name, row, f"{shown} {requirement}")

    def error(self, name: str, row: int, reason: str) -> InputFileError:
        """The error that says what is wrong with the value of a column in a row of the frame."""
        where = f"line {row + 2}" if self.path.suffix.lower() == ".csv" else f"row {row + 1}"
        return InputFileError(f"{self.path}: column {name}, {where}: {reason}")


def _first_malformed_line(path: Path) -> str | None:
    """Say where a CSV file that polars refuses goes wrong, since polars does not."""
    with path.open("rb") as file:
        rows = csv.reader((line.decode() for line in file), strict=True)
        line, width = 1, 0
        try:
            for row in rows:
                width = width or len(row)
                if len(row) > width:
                    return f"line {line} has {len(row)} values, the header {width}"
                line = rows.line_num + 1
        except UnicodeDecodeError:
            return f"line {rows.line_num + 1} is not UTF-8"
        except csv.Error as error:
            return f"line {line}: {error}"
    return None
