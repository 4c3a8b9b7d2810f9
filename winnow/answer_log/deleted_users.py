"""Which users were deleted, and when: their earlier answers are no part of the log any more, whatever its files hold.

Each deletion is an empty file whose name is a hash of the user id and a time. So it is there as a whole or not at all,
any process may add one, and copies of several machines' logs can be merged.
"""

import hashlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from winnow.answer_log.records import AnswerRecord
from winnow.flush import flush_to_disk

DIRECTORY = "deleted"


def note_deletion(log: Path, user_id: str) -> None:
    """Remember in a log that a user was deleted just now; on disk when it returns. Raises OSError."""
    directory = log / DIRECTORY
    directory.mkdir(parents=True, exist_ok=True)
    note = directory / f"{_digest(user_id)}-{time.time_ns() // 1_000_000}"
    note.touch(0o600)
    for changed in (note, directory, log):
        flush_to_disk(changed)


@dataclass(frozen=True)
class DeletedUsers:
    """When each deleted user was deleted last, in milliseconds since 1970, by the hash of the user id."""

    milliseconds: Mapping[str, int]

    @classmethod
    def read(cls, logs: Iterable[Path]) -> Self:
        """Read the deletions of some logs. Each holds for all of them. Raises ValueError for an unknown file."""
        found: dict[str, int] = {}
        for log in logs:
            directory = log / DIRECTORY
            for path in directory.iterdir() if directory.is_dir() else ():
                digest, _, milliseconds = path.name.partition("-")
                if len(digest) != 64 or not milliseconds.isdecimal():
                    raise ValueError(f"{path} is not a deletion that a gateway has noted")
                found[digest] = max(found.get(digest, 0), int(milliseconds))
        return cls(found)

    def include(self, record: AnswerRecord) -> bool:
        """Whether the user was deleted after this answer."""
        deleted = self.milliseconds.get(_digest(record.user_id)) if self.milliseconds else None
        return deleted is not None and record.answered_milliseconds <= deleted


def _digest(user_id: str) -> str:
    return hashlib.sha256(user_id.encode()).hexdigest()
