"""Input files of any origin, read so that whatever is wrong with one is said with its file, column and line."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import polars as pl


class InteractionLogError(ValueError):
    """An input file cannot be used; the message names the file, the column and the first offending line."""


@dataclass(frozen=True, kw_only=True, eq=False)
class InputTable:
    """A CSV or Parquet file in memory, at least one row long. Columns of a CSV file are text."""

    path: Path
    frame: pl.DataFrame
    header_lines: int

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file that ends in .csv or .parquet. Raises InteractionLogError where it cannot be read or is empty."""
        suffix = path.suffix.lower()
        if suffix not in (".csv", ".parquet"):
            raise InteractionLogError(f"{path}: the name has to end in .csv or .parquet")
        try:
            frame = pl.read_csv(path, infer_schema=False) if suffix == ".csv" else pl.read_parquet(path)
        except pl.exceptions.NoDataError:
            raise InteractionLogError(f"{path} is empty") from None
        except (OSError, pl.exceptions.PolarsError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InteractionLogError(f"{path} cannot be read as {suffix[1:]}: {reason}") from None
        if not frame.height:
            raise InteractionLogError(f"{path} holds no rows")
        return cls(path=path, frame=frame, header_lines=1 if suffix == ".csv" else 0)

    @property
    def columns(self) -> Sequence[str]:
        """The names of all columns."""
        return self.frame.columns

    @property
    def height(self) -> int:
        """The number of rows."""
        return self.frame.height

    def column(self, name: str) -> pl.Series:
        """Return a column. Raises InteractionLogError where it is missing."""
        if name not in self.frame.columns:
            raise InteractionLogError(f"{self.path}: column {name} is missing; there are {', '.join(self.columns)}")
        return self.frame[name]

    def text(self, name: str) -> pl.Series:
        """Return a column of ids as text. Raises InteractionLogError where it is missing or has an empty value."""
        column = self.column(name)
        if column.dtype.is_nested() or column.dtype == pl.Binary:
            raise InteractionLogError(f"{self.path}: column {name} has the type {column.dtype}: text is needed")
        text = column.cast(pl.String)
        self.check(name, text.is_not_null() & (text != ""), "has to have a value")
        return text

    def check(self, name: str, valid: pl.Series, requirement: str) -> None:
        """Raise InteractionLogError, naming the first line where `valid` (bool, null counts as false) does not hold.

        Lines count from 1, a CSV file's header included; a Parquet file has rows instead.
        """
        offending = (~valid.fill_null(value=False)).arg_true()
        if len(offending):
            row = int(offending[0])
            where = f"line {row + 1 + self.header_lines}" if self.header_lines else f"row {row + 1}"
            value = self.frame[name][row]
            raise InteractionLogError(f"{self.path}: column {name}, {where}: {value!r} {requirement}")
