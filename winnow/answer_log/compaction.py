"""Takes the answers of deleted users out of the files of a log."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from winnow.answer_log.deleted_users import DeletedUsers
from winnow.answer_log.files import Damage, block_of, log_files, read_lines
from winnow.answer_log.whole_file import whole_file
from winnow.locks import try_lock

BLOCK_LINES = 2_000


@dataclass(frozen=True, kw_only=True)
class Compaction:
    """What became of the files."""

    rewritten_count: int
    removed_record_count: int
    busy_count: int
    """Files that a gateway still writes: they are left alone."""


def compact(directories: Sequence[Path]) -> Compaction:
    """Rewrite each file that holds answers of deleted users without them. Raises AnswerLogError and OSError.

    A file takes the place of the old one as a whole. One that cannot be read to its end is not rewritten.
    """
    deleted = DeletedUsers.read(directories)
    rewritten = removed = busy = 0
    for path in log_files(directories):
        # A gateway holds the lock of the file that it writes.
        with try_lock(path) as free:
            if not free:
                busy += 1
                continue
            damage = Damage()
            count = sum(deleted.include(record) for _, record in read_lines(path, damage))
            if count:
                _rewrite(path, deleted)
                rewritten, removed = rewritten + 1, removed + count
    return Compaction(rewritten_count=rewritten, removed_record_count=removed, busy_count=busy)


def _rewrite(path: Path, deleted: DeletedUsers) -> None:
    with whole_file(path) as file:
        block: list[bytes] = []
        for line, record in read_lines(path, Damage()):
            if deleted.include(record):
                continue
            block.append(line)
            if len(block) == BLOCK_LINES:
                file.write(block_of(block))
                block.clear()
        if block:
            file.write(block_of(block))
