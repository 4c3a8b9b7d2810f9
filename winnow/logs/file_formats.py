"""Input files as frames: delimited text, JSON lines and Parquet. Text may be compressed with gzip."""

import csv
import io
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl

from winnow.logs.text_blocks import InputFileError, TextBlock, text_blocks

__all__ = ["BLOCK", "WHOLE_FILE", "BlockSize", "FileContent", "InputFileError", "read_blocks", "read_file"]

TEXT_SUFFIXES = (".csv", ".tsv")
JSON_LINES_SUFFIXES = (".jsonl", ".ndjson", ".json")


@dataclass(frozen=True)
class MalformedLine:
    """A line of a text file that is no record, and why."""

    line: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class BlockSize:
    """How much of a file is in memory at once."""

    text_bytes: int | None = 64 << 20
    """Of delimited text and JSON lines, uncompressed; None for all."""
    parquet_rows: int | None = 1_000_000


BLOCK = BlockSize()
WHOLE_FILE = BlockSize(text_bytes=None, parquet_rows=None)


@dataclass(frozen=True, kw_only=True, eq=False)
class FileContent:
    """A file, or a block of it, in memory. All columns of delimited text are text; empty values are null."""

    path: Path
    frame: pl.DataFrame
    malformed: Sequence[MalformedLine] = ()
    """Lines that were left out of the frame."""
    lines: Sequence[int] | None = None
    """The line of each row, where lines were left out."""
    text: TextBlock | None = None
    """What the frame was read from; None for Parquet."""
    first_row: int = 0
    """Rows of a Parquet file before this block."""

    def places(self, rows: Sequence[int]) -> list[str]:
        """Say where rows of the frame are: "line 3", header included; "row 2" in a Parquet file."""
        if self.text is None:
            return [f"row {self.first_row + row + 1}" for row in rows]
        lines: dict[int, int] = {}
        wanted, last = set(rows), max(rows, default=-1)
        for row, line in enumerate(self.lines or self.text.record_lines()):
            if row in wanted:
                lines[row] = line
            if row >= last:
                break
        return [f"line {lines[row]}" for row in rows]


def read_file(path: Path, *, skip_malformed: bool = False) -> FileContent:
    """Read a file by the end of its name: .csv, .tsv, .jsonl, .ndjson or .json, each also with .gz, or .parquet.

    The delimiter of text is a comma, semicolon, tab or vertical bar: the one that the header has most of. With
    `skip_malformed`, lines that are no record are left out. Raises InputFileError where the file cannot be read.
    """
    [content] = read_blocks(path, skip_malformed=skip_malformed, size=WHOLE_FILE)
    return content


def read_blocks(path: Path, *, skip_malformed: bool = False, size: BlockSize = BLOCK) -> Iterator[FileContent]:
    """Read a file as `read_file` does, block by block: at least one, perhaps without rows.

    Columns have the same types in all blocks. Raises InputFileError for the first block that cannot be read.
    """
    kind = _kind(path)
    if kind is None:
        endings = ", ".join([*TEXT_SUFFIXES, *JSON_LINES_SUFFIXES])
        raise InputFileError(f"{path}: the name must end in {endings}, each of them also with .gz, or .parquet")
    try:
        yield from (
            _parquet_blocks(path, size)
            if kind == "parquet"
            else _text_contents(path, kind, skip_malformed=skip_malformed, size=size)
        )
    except pl.exceptions.NoDataError:
        raise InputFileError(f"{path} is empty") from None
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputFileError(f"{path} cannot be read as {kind}: {reason.splitlines()[0]}") from None
    except pl.exceptions.PolarsError as error:
        raise InputFileError(f"{path} cannot be read as {kind}: {_reason(error)}") from None
    except pl.exceptions.PanicException as error:
        # What a damaged Parquet file does to polars, now and then.
        raise InputFileError(f"{path} cannot be read as {kind}: it is damaged ({str(error)[:80]})") from None


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


def _parquet_blocks(path: Path, size: BlockSize) -> Iterator[FileContent]:
    if size.parquet_rows is None:
        yield FileContent(path=path, frame=_with_trimmed_names(pl.read_parquet(path, glob=False)))
        return
    rows = pl.scan_parquet(path, hive_partitioning=False, glob=False)
    count = int(rows.select(pl.len()).collect().item())
    for first_row in range(0, max(count, 1), size.parquet_rows):
        frame = rows.slice(first_row, size.parquet_rows).collect()
        yield FileContent(path=path, frame=_with_trimmed_names(frame), first_row=first_row)


def _text_contents(path: Path, kind: str, *, skip_malformed: bool, size: BlockSize) -> Iterator[FileContent]:
    blocks = text_blocks(path, delimited=kind != "JSON lines", block_bytes=size.text_bytes)
    first = next(blocks, None)
    if first is None:
        raise pl.exceptions.NoDataError
    if kind == "JSON lines" and re.match(rb"\s*\[", first.text):
        raise InputFileError(
            f"{path} is a JSON array: there must be one object on each line (jq -c '.[]' makes such files)"
        )
    second = next(blocks, None)
    schema = None
    if second is not None and kind == "JSON lines":
        schema = _json_schema(path, size)
    for block in filter(None, chain([first, second], blocks)):
        try:
            frame = _with_trimmed_names(_frame(block, schema))
        except pl.exceptions.NoDataError:
            raise
        except pl.exceptions.PolarsError as error:
            # polars does not say in which line.
            content = _line_by_line(path, kind, block, _reason(error), skip_malformed=skip_malformed)
            yield content if schema is None else replace(content, frame=_with_columns(content.frame, schema))
        else:
            yield FileContent(path=path, frame=frame, text=block)


def _frame(block: TextBlock, schema: pl.Schema | None) -> pl.DataFrame:
    source = block.text
    if block.delimiter:
        return pl.read_csv(source, separator=block.delimiter, infer_schema=False)
    return pl.read_ndjson(source, schema=schema, infer_schema_length=None)


def _json_schema(path: Path, size: BlockSize) -> pl.Schema | None:
    """Return the types that the columns would have if the file was read as a whole; None where they do not agree."""
    found: pl.DataFrame = pl.DataFrame()
    try:
        for block in text_blocks(path, delimited=False, block_bytes=size.text_bytes):
            empty = pl.DataFrame(schema=_frame(block, None).schema)
            found = pl.concat([found, empty], how="diagonal_relaxed") if found.width else empty
    except pl.exceptions.PolarsError:
        return None
    return found.schema


def _with_columns(frame: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    """Add the columns that no record of a block has, but records of others do."""
    missing = [pl.lit(None, dtype).alias(name) for name, dtype in schema.items() if name not in frame.columns]
    return frame.with_columns(missing) if frame.height else frame


def _reason(error: pl.exceptions.PolarsError) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _line_by_line(path: Path, kind: str, block: TextBlock, refused: str, *, skip_malformed: bool) -> FileContent:
    """Read a block of text that polars refuses. Raises InputFileError that names the first line at fault."""
    malformed: list[MalformedLine] = []
    read = _delimited_records if block.delimiter else _json_records
    columns, records, lines = read(path, block, malformed)
    if not (malformed and skip_malformed):
        first = f"line {malformed[0].line}: {malformed[0].reason}" if malformed else refused
        raise InputFileError(f"{path} cannot be read as {kind}: {first}")
    schema = None if columns is None else dict.fromkeys(columns, pl.String)
    frame = pl.DataFrame(records, schema=schema, orient=None if columns is None else "row", infer_schema_length=None,
                         strict=False)  # fmt: skip
    return FileContent(path=path, frame=_with_trimmed_names(frame), malformed=malformed, lines=lines, text=block)


def _with_trimmed_names(frame: pl.DataFrame) -> pl.DataFrame:
    names = [name.strip() for name in frame.columns]
    return frame.rename(dict(zip(frame.columns, names, strict=True))) if len({*names}) == len(names) else frame


Records = tuple[Sequence[str] | None, list[Any], list[int]]


def _delimited_records(path: Path, block: TextBlock, malformed: list[MalformedLine]) -> Records:
    """Return the header, the records and the line of each; lines that are no record are added to `malformed`."""
    records: list[Any] = []
    lines: list[int] = []
    header: list[str] = []
    # What is not UTF-8 is decoded to lone surrogates, which cannot be encoded.
    text = (line.decode(errors="surrogateescape") for line in io.BytesIO(block.text))
    rows = csv.reader(text, delimiter=block.delimiter, strict=True)
    while True:
        line = block.line_of_file(rows.line_num + 1)
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


def _json_records(_path: Path, block: TextBlock, malformed: list[MalformedLine]) -> Records:
    records: list[Any] = []
    lines: list[int] = []
    for number, text in enumerate(io.BytesIO(block.text), start=1):
        line = block.line_of_file(number)
        if not text.strip():
            continue
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            malformed.append(MalformedLine(line, f"not JSON: {error}"))
            continue
        if not isinstance(record, dict):
            malformed.append(MalformedLine(line, "not a JSON object"))
            continue
        records.append(record)
        lines.append(line)
    return None, records, lines
