"""Input files as frames: delimited text, JSON lines and Parquet. Text may be compressed with gzip."""

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl

TEXT_SUFFIXES = (".csv", ".tsv")
JSON_LINES_SUFFIXES = (".jsonl", ".ndjson")
DELIMITERS = ",;\t|"


class InputFileError(ValueError):
    """An input file cannot be used; the message names the file and, where they are known, the column and the line."""


@dataclass(frozen=True)
class MalformedLine:
    """A line of a text file that is no record, and why."""

    line: int
    reason: str


@dataclass(frozen=True, kw_only=True, eq=False)
class FileContent:
    """A file in memory. All columns of delimited text are text; empty values are null."""

    path: Path
    frame: pl.DataFrame
    malformed: Sequence[MalformedLine] = ()
    """Lines that were left out of the frame."""
    lines: Sequence[int] | None = None
    """The line of each row, where lines were left out."""

    def places(self, rows: Sequence[int]) -> list[str]:
        """Say where rows of the frame are: "line 3", header included; "row 2" in a Parquet file."""
        if _kind(self.path) == "parquet":
            return [f"row {row + 1}" for row in rows]
        lines: dict[int, int] = {}
        wanted, last = set(rows), max(rows, default=-1)
        for row, line in enumerate(self.lines or _record_lines(self.path)):
            if row in wanted:
                lines[row] = line
            if row >= last:
                break
        return [f"line {lines[row]}" for row in rows]


def read_file(path: Path, *, skip_malformed: bool = False) -> FileContent:
    """Read a file by the end of its name: .csv, .tsv, .jsonl or .ndjson, each also with .gz, or .parquet.

    The delimiter of text is a comma, semicolon, tab or vertical bar: the one that the header has most of. With
    `skip_malformed`, lines that are no record are left out. Raises InputFileError where the file cannot be read.
    """
    kind = _kind(path)
    if kind is None:
        endings = ", ".join([*TEXT_SUFFIXES, *JSON_LINES_SUFFIXES])
        raise InputFileError(f"{path}: the name must end in {endings}, each of them also with .gz, or .parquet")
    try:
        return FileContent(path=path, frame=_with_trimmed_names(_frame(path, kind)))
    except pl.exceptions.NoDataError:
        raise InputFileError(f"{path} is empty") from None
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputFileError(f"{path} cannot be read as {kind}: {reason.splitlines()[0]}") from None
    except pl.exceptions.PolarsError as error:
        refused = str(error).splitlines()[0] if str(error) else type(error).__name__
    if kind == "parquet":
        raise InputFileError(f"{path} cannot be read as {kind}: {refused}")
    # polars does not say in which line.
    return _line_by_line(path, kind, refused, skip_malformed=skip_malformed)


def _kind(path: Path) -> str | None:
    """Return the format that the name ends in: csv, tsv, JSON lines or parquet; None for another."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".parquet"]:
        return "parquet"
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
    if not suffixes:
        return None
    if suffixes[-1] in TEXT_SUFFIXES:
        return suffixes[-1][1:]
    return "JSON lines" if suffixes[-1] in JSON_LINES_SUFFIXES else None


def _frame(path: Path, kind: str) -> pl.DataFrame:
    if kind == "parquet":
        return pl.read_parquet(path)
    source: Path | io.BytesIO = path
    with _opened(path) as file:
        if not file.read(1):
            raise pl.exceptions.NoDataError
        if path.suffix.lower() == ".gz":
            file.seek(0)
            source = io.BytesIO(file.read())
    if kind == "JSON lines":
        return pl.read_ndjson(source, infer_schema_length=None)
    return pl.read_csv(source, separator=_delimiter(path), infer_schema=False)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
        yield file  # type: ignore[misc]


def _delimiter(path: Path) -> str:
    if ".tsv" in (suffix.lower() for suffix in path.suffixes):
        return "\t"
    with _opened(path) as file:
        header = re.sub(r'"[^"]*"', "", file.readline().decode(errors="replace"))
    return max(DELIMITERS, key=header.count)


def _line_by_line(path: Path, kind: str, refused: str, *, skip_malformed: bool) -> FileContent:
    """Read a text file that polars refuses. Raises InputFileError that names the first line at fault."""
    malformed: list[MalformedLine] = []
    columns, records, lines = (_json_records if kind == "JSON lines" else _delimited_records)(path, malformed)
    if not (malformed and skip_malformed):
        first = f"line {malformed[0].line}: {malformed[0].reason}" if malformed else refused
        raise InputFileError(f"{path} cannot be read as {kind}: {first}")
    schema = None if columns is None else dict.fromkeys(columns, pl.String)
    frame = pl.DataFrame(records, schema=schema, orient=None if columns is None else "row", infer_schema_length=None,
                         strict=False)  # fmt: skip
    return FileContent(path=path, frame=_with_trimmed_names(frame), malformed=malformed, lines=lines)


def _with_trimmed_names(frame: pl.DataFrame) -> pl.DataFrame:
    names = [name.strip() for name in frame.columns]
    return frame.rename(dict(zip(frame.columns, names, strict=True))) if len({*names}) == len(names) else frame


Records = tuple[Sequence[str] | None, list[Any], list[int]]


def _delimited_records(path: Path, malformed: list[MalformedLine]) -> Records:
    """Return the header, the records and the line of each; lines that are no record are added to `malformed`."""
    records: list[Any] = []
    lines: list[int] = []
    header: list[str] = []
    with _opened(path) as file:
        # What is not UTF-8 is decoded to lone surrogates, which cannot be encoded.
        rows = csv.reader(
            (line.decode(errors="surrogateescape") for line in file), delimiter=_delimiter(path), strict=True
        )
        while True:
            line = rows.line_num + 1
            try:
                row = next(rows)
                "".join(row).encode()
            except StopIteration:
                return header, records, lines
            except UnicodeEncodeError:
                malformed.append(MalformedLine(line, "not UTF-8"))
            except csv.Error as error:
                malformed.append(MalformedLine(line, str(error)))
                if "end of data" in str(error):
                    # A quote that is never closed: all further lines are part of it, and must not be lost quietly.
                    raise InputFileError(f"{path} cannot be read as csv: line {line}: {error}") from None
            else:
                if not header:
                    header = row
                elif len(row) > len(header):
                    malformed.append(MalformedLine(line, f"{len(row)} values, but the header has {len(header)}"))
                elif row:
                    records.append([value or None for value in row] + [None] * (len(header) - len(row)))
                    lines.append(line)


def _json_records(path: Path, malformed: list[MalformedLine]) -> Records:
    records: list[Any] = []
    lines: list[int] = []
    with _opened(path) as file:
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                record = json.loads(text)
            except ValueError as error:
                malformed.append(MalformedLine(line, f"not JSON: {error}"))
                continue
            if not isinstance(record, dict):
                malformed.append(MalformedLine(line, "not a JSON object"))
                continue
            records.append(record)
            lines.append(line)
    return None, records, lines


def _record_lines(path: Path) -> Iterator[int]:
    """Yield the line in which each record of a text file begins."""
    with _opened(path) as file:
        if _kind(path) == "JSON lines":
            yield from (line for line, text in enumerate(file, start=1) if text.strip())
            return
        rows = csv.reader((line.decode(errors="replace") for line in file), delimiter=_delimiter(path))
        next(rows)
        line = rows.line_num + 1
        for row in rows:
            if row:
                yield line
            line = rows.line_num + 1
