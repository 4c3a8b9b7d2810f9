"""Text files in blocks of whole records, so that a file of any size can be read within a fixed amount of memory."""

import csv
import gzip
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

DELIMITERS = ",;\t|"
# What is longer is no header: a line of a gigabyte must not be read as one.
LONGEST_HEADER_LINE = 1 << 20
MOST_HEADER_LINES = 1000
# A record that goes on for this many blocks has a quote that is never closed.
MOST_BLOCKS_OF_A_RECORD = 8


class InputFileError(ValueError):
    """An input file cannot be used; the message names the file and, where they are known, the column and the line."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TextBlock:
    """Some records of a text file, as they are in the file, uncompressed."""

    delimiter: str
    """Of the values; empty where every line is a record of its own."""
    header: bytes
    """The line, or the lines, that name the columns; empty where lines are records."""
    body: bytes
    first_line: int
    """The line of the file that the body begins with, from 1."""

    @property
    def text(self) -> bytes:
        """The header and the records: a file of its own."""
        return self.header + self.body if self.header else self.body

    def line_of_file(self, line: int) -> int:
        """Return which line of the file a line of `text` is, both from 1."""
        header_lines = self.header.count(b"\n")
        return line if line <= header_lines else line - header_lines + self.first_line - 1

    def record_lines(self) -> Iterator[int]:
        """Yield the line of the file in which each record begins."""
        if not self.delimiter:
            yield from (self.line_of_file(line) for line, text in enumerate(io.BytesIO(self.text), 1) if text.strip())
            return
        rows = csv.reader(_decoded(io.BytesIO(self.text)), delimiter=self.delimiter)
        next(rows)
        line = rows.line_num + 1
        for row in rows:
            if row:
                yield self.line_of_file(line)
            line = rows.line_num + 1


def text_blocks(path: Path, *, delimited: bool, block_bytes: int | None) -> Iterator[TextBlock]:
    """Yield a text file, which may be compressed, in blocks of about `block_bytes`, or in one; an empty file has none.

    A record is never cut, line breaks within quotes included. Where one does not end, the block does not either: after
    MOST_BLOCKS_OF_A_RECORD it is yielded as it is. Raises InputFileError for a header without an end, OSError, EOFError
    and zlib.error.
    """
    delimiter = _delimiter(path) if delimited else ""
    with opened(path) as file:
        header = _header(path, file, delimiter) if delimited else b""
        line = 1 + header.count(b"\n")
        begun = b""
        is_first = True
        while True:
            read = file.read(-1 if block_bytes is None else block_bytes)
            content = begun + read if begun else read
            is_last = block_bytes is None or len(read) < block_bytes
            is_endless = block_bytes is not None and len(content) >= block_bytes * MOST_BLOCKS_OF_A_RECORD
            end = len(content) if is_last or is_endless else _end_of_records(content, delimiter)
            body, begun = content[:end], content[end:]
            # Blank lines alone are no block, but a file is at least one.
            if (body and not body.isspace()) or (is_first and is_last and (header or body)):
                yield TextBlock(delimiter=delimiter, header=header, body=body, first_line=line)
                is_first = False
            if is_last:
                return
            line += body.count(b"\n")


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading, decompressed if its name ends in .gz."""
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
        yield file  # type: ignore[misc]


def _delimiter(path: Path) -> str:
    if ".tsv" in (suffix.lower() for suffix in path.suffixes):
        return "\t"
    with opened(path) as file:
        header = re.sub(r'"[^"]*"', "", file.readline(LONGEST_HEADER_LINE).decode(errors="replace"))
    return max(DELIMITERS, key=header.count)


def _header(path: Path, file: BinaryIO, delimiter: str) -> bytes:
    """Read the first record that is not empty. Raises InputFileError where it is too long to be a header."""
    lines: list[bytes] = []

    def read() -> Iterator[bytes]:
        while line := file.readline(LONGEST_HEADER_LINE):
            if len(line) == LONGEST_HEADER_LINE or len(lines) == MOST_HEADER_LINES:
                raise InputFileError(f"{path}: the header has no end")
            lines.append(line)
            yield line

    # What is wrong with it, the parser says.
    with suppress(csv.Error):
        next(filter(None, csv.reader(_decoded(read()), delimiter=delimiter)), None)
    return b"".join(lines)


def _end_of_records(content: bytes, delimiter: str) -> int:
    """Return where the last whole record ends; 0 where there is none."""
    end = content.rfind(b"\n") + 1
    if not delimiter or b'"' not in content:
        return end
    read = whole = 0

    def lines() -> Iterator[bytes]:
        nonlocal read
        for line in io.BytesIO(content[:end]):
            read += len(line)
            yield line

    rows = csv.reader(_decoded(lines()), delimiter=delimiter, strict=True)
    while True:
        try:
            next(rows)
        except StopIteration:
            return whole
        except csv.Error as error:
            if "end of data" in str(error):
                return whole
        whole = read


def _decoded(lines: Iterator[bytes] | BinaryIO) -> Iterator[str]:
    return (line.decode(errors="replace") for line in lines)
