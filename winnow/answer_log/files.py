"""The files of a log: JSON lines in blocks, each a gzip stream of its own. `zcat` reads them.

A process that is killed leaves a file whose last block is cut. What comes before the cut is whole.
"""

import fcntl
import gzip
import os
import secrets
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from winnow.answer_log.records import AnswerRecord, record_of

FILE_PATTERN = "answers-*.jsonl.gz"
CHUNK_BYTES = 64 * 1024
# 100 items with the longest ids, every character of them escaped, and their sources.
MAX_LINE_BYTES = 1 << 20
_COMPRESSION_LEVEL = 4
_GZIP = 16 + zlib.MAX_WBITS


class AnswerLogError(ValueError):
    """A log cannot be read; the message names the file and the line."""


@dataclass
class Damage:
    """What could not be read of a log."""

    cut_files: list[str] = field(default_factory=list)
    """Files that end in the middle of a record, and how many records come before that."""
    bad_rows: list[str] = field(default_factory=list)
    """What is wrong with which line: these were skipped."""


def log_files(directories: Sequence[Path]) -> list[Path]:
    """Return the files of some logs, the oldest first. Raises AnswerLogError where a directory is not there."""
    for directory in directories:
        if not directory.is_dir():
            raise AnswerLogError(f"{directory} is not the directory of an answer log")
    return sorted((path for directory in directories for path in directory.glob(FILE_PATTERN)), key=lambda p: p.name)


def new_file(directory: Path) -> int:
    """Make a file of a name that no other has, and return its descriptor. It is locked while it is open."""
    name = FILE_PATTERN.replace("*", f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{os.getpid()}-{secrets.token_hex(4)}")
    descriptor = os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
    with suppress(OSError):  # where there are no locks
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def block_of(lines: Sequence[bytes]) -> bytes:
    """Compress lines, which can be appended to a file then."""
    return gzip.compress(b"".join(lines), _COMPRESSION_LEVEL)


def read_lines(path: Path, damage: Damage, *, skip_bad_rows: bool = False) -> Iterator[tuple[bytes, AnswerRecord]]:
    """Yield each line of a file and the record that it is.

    Where the file ends in the middle of a record, `damage` says so: a gateway that was killed, or one that is writing
    just now. Raises AnswerLogError for any other line that is no record, and OSError; with `skip_bad_rows` such lines
    are left out.
    """
    line = 0

    def bad(reason: str) -> None:
        message = f"{path}: line {line}: {reason}"
        if not skip_bad_rows:
            raise AnswerLogError(message)
        damage.bad_rows.append(message)

    lines = _lines(path)
    while True:
        line += 1
        try:
            text = next(lines)
        except StopIteration:
            return
        except EOFError:
            damage.cut_files.append(f"{path} ends in the middle of a record, after {line - 1:,} whole ones")
            return
        except (zlib.error, OverflowError) as error:
            # What comes after it cannot be found any more.
            bad(f"cannot be read, nor what follows: {error}")
            return
        try:
            record = record_of(text)
        except ValueError as error:
            bad(str(error))
            continue
        yield text, record


def _lines(path: Path) -> Iterator[bytes]:
    """Yield whole lines. Raises EOFError where the file is cut, zlib.error where it is no gzip, and OverflowError."""
    inflater, rest = zlib.decompressobj(_GZIP), b""
    begun = False
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            while chunk:
                if inflater.eof:
                    inflater = zlib.decompressobj(_GZIP)
                rest += inflater.decompress(chunk)
                begun, chunk = True, inflater.unused_data
                *whole, rest = rest.split(b"\n")
                for line in whole:
                    yield line + b"\n"
                if len(rest) > MAX_LINE_BYTES:
                    raise OverflowError(f"longer than {MAX_LINE_BYTES:,} bytes")
    if rest or (begun and not inflater.eof):
        raise EOFError
