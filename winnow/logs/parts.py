"""The parts of a large log: folders `part=0`, `part=1`, ... of Parquet files, each with all watches of its users.

The part of a user follows from the id alone, so anything that computes CRC-32 can write the same parts, and the ranks
of a distributed training share the users without talking to each other. docs/large-logs.md describes the format.
"""

import re
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from winnow.logs.text_blocks import InputFileError

DEFAULT_PART_COUNT = 64
MOST_PARTS = 4096
_PART = re.compile(r"part=(0|[1-9][0-9]*)")


def parts_of_users(user_ids: Iterable[str], part_count: int = DEFAULT_PART_COUNT) -> NDArray[np.int64]:
    """Return the part of each user: CRC-32 of the id in UTF-8, modulo the number of parts, int64."""
    hashes = np.fromiter((zlib.crc32(user_id.encode()) for user_id in user_ids), dtype=np.int64)
    return hashes % part_count


def parts_of_rank(rank: int, rank_count: int, part_count: int) -> range:
    """Return the parts that rank `rank` of `rank_count` reads: no part is of two ranks.

    Raises ValueError where a rank would have none.
    """
    if not 0 <= rank < rank_count:
        raise ValueError(f"rank {rank} is not one of {rank_count}")
    if rank_count > part_count:
        raise ValueError(
            f"{rank_count} processes cannot share {part_count} parts: start fewer, or cut the log into more parts"
        )
    return range(rank, part_count, rank_count)


def part_name(part: int) -> str:
    """Return the name of the folder of a part, as Hive, Spark and Ray name it."""
    return f"part={part}"


def part_folders(log: Path) -> dict[int, Path]:
    """Return the folders of the parts that have users, by number, in order; empty where `log` is not in parts.

    Raises InputFileError for what looks like a part, or like a file of one, and is not read.
    """
    found = {}
    for entry in log.iterdir() if log.is_dir() else ():
        match = _PART.fullmatch(entry.name)
        if match is not None and entry.is_dir():
            found[int(match[1])] = entry
        elif entry.name.startswith("part=") or entry.name.endswith(".parquet"):
            raise InputFileError(f"{entry} is none of the parts, which are folders {part_name(0)}, {part_name(1)}, ...")
    return dict(sorted(found.items()))


def files_of_part(folder: Path) -> list[Path]:
    """Return the Parquet files of a part by name. Raises InputFileError where there is none, or anything else.

    What begins with a dot or an underscore is left out.
    """
    files = sorted(file for file in folder.iterdir() if not file.name.startswith((".", "_")))
    for file in files:
        if file.suffix != ".parquet" or not file.is_file():
            raise InputFileError(f"{file} is no Parquet file, but is among those of a part")
    if not files:
        raise InputFileError(f"{folder} has no Parquet file")
    return files
