"""The stored events and the answer log, as the files that `winnow train` reads.

Memory is bounded by one user: the answers wait in an SQLite file beside the output, by user, while the store gives its
users one after the other.
"""

import gzip
import json
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from winnow.answer_log.deleted_users import DeletedUsers
from winnow.answer_log.files import Damage, log_files, read_lines
from winnow.answer_log.records import AnswerRecord, record_of
from winnow.answer_log.whole_file import whole_file
from winnow.locks import only_process_in
from winnow.loop.join import Impression, Shown, join
from winnow.users.addresses import store_at
from winnow.users.events import Event, EventKind
from winnow.users.store import HistoryStore, StoreError

WATCHES_FILE = "watches.jsonl.gz"
IMPRESSIONS_FILE = "impressions.jsonl.gz"
CACHE_KIBIBYTES = 32 * 1024
# Of one user, the latest ones: some callers have one user id for everybody who has not signed in.
MAX_ANSWERS_PER_USER = 5_000
# One transaction keeps the file fast; its rollback journal is switched off.
_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE answers (recommendation_id TEXT PRIMARY KEY, user_id TEXT NOT NULL, line BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE exported (user_id TEXT PRIMARY KEY) WITHOUT ROWID;
"""
_KEEP = "INSERT INTO answers VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_OF_USER = "SELECT line FROM answers WHERE user_id = ? ORDER BY recommendation_id DESC LIMIT ?"
_COUNT_OF_USER = "SELECT count(*) FROM answers WHERE user_id = ?"
_OF_ID = "SELECT 1 FROM answers WHERE recommendation_id = ?"
_REST = "SELECT DISTINCT user_id FROM answers WHERE user_id NOT IN (SELECT user_id FROM exported)"


@dataclass(kw_only=True)
class Exported:
    """What an export has read and written."""

    user_count: int = 0
    """With events, answers or both."""
    watch_count: int = 0
    impression_count: int = 0
    clicked_count: int = 0
    answer_count: int = 0
    """In the log, without those of deleted users."""
    deleted_answer_count: int = 0
    """In the log, of users who were deleted later."""
    repeated_answer_count: int = 0
    """Records whose recommendation id an earlier one has."""
    omitted_answer_count: int = 0
    """Of users with more answers than are exported of one."""
    unknown_citation_count: int = 0
    """Clicks and watches that cite what is not among the impressions of their user."""
    foreign_citation_count: int = 0
    """Clicks and watches that cite an answer to another user."""
    damage: Damage = field(default_factory=Damage)

    def lines(self) -> Iterator[str]:
        """Say it to a person."""
        yield f"{self.watch_count:,} watches of {self.user_count:,} users"
        yield f"{self.impression_count:,} impressions, {self.clicked_count:,} of them clicked"
        yield f"{self.answer_count:,} logged answers; {self.deleted_answer_count:,} others are of deleted users"
        if self.repeated_answer_count:
            yield f"{self.repeated_answer_count:,} records repeat a recommendation id; the first one counts"
        if self.omitted_answer_count:
            yield (
                f"{self.omitted_answer_count:,} older answers are left out: of one user the latest "
                f"{MAX_ANSWERS_PER_USER:,} are exported"
            )
        if self.unknown_citation_count:
            yield f"{self.unknown_citation_count:,} clicks and watches cite what is not among the impressions"
        if self.foreign_citation_count:
            yield f"{self.foreign_citation_count:,} clicks and watches cite an answer to another user: not joined"
        yield from self.damage.cut_files
        if self.damage.bad_rows:
            yield f"{len(self.damage.bad_rows):,} lines of the answer log cannot be read. The first:"
            yield from (f"  {row}" for row in self.damage.bad_rows[:10])


async def export_from(
    users_store: str, logs: Sequence[Path], output: Path, *, shown: Shown = "answers", skip_bad_rows: bool = False
) -> Exported:
    """Export the store of an address, see `export`.

    Raises ValueError where it cannot be read; it is never made. Raises OSError where the disk is full.
    """
    # A limit matters to writers only.
    store = store_at(users_store, max_events=1)
    try:
        return await export(store, logs, output, shown=shown, skip_bad_rows=skip_bad_rows)
    except StoreError as error:
        raise ValueError(f"the store of users cannot be read ({error})") from error
    except sqlite3.Error as error:
        # Of the file beside the output: the store has errors of its own.
        raise OSError(f"{output}: the answers have no room there ({error})") from error
    finally:
        await store.close()


async def export(
    store: HistoryStore,
    logs: Sequence[Path],
    output: Path,
    *,
    shown: Shown = "answers",
    skip_bad_rows: bool = False,
) -> Exported:
    """Write the watches of all users, and what they were shown, into the directory `output`.

    `logs` are the directories of the answer logs of all gateways. When both files are complete, each replaces an older
    one as a whole. Raises StoreError where the store cannot be read, AnswerLogError that names a line, ValueError where
    another process works in `output`, and OSError.
    """
    done = Exported()
    with ExitStack() as stack:
        stack.enter_context(only_process_in(output))
        directory = stack.enter_context(_empty_directory(output / ".exporting"))
        watches = stack.enter_context(_lines_to(output / WATCHES_FILE))
        impressions = stack.enter_context(_lines_to(output / IMPRESSIONS_FILE))
        answers = stack.enter_context(closing(_Answers(directory / "answers.db")))
        answers.read(logs, done, skip_bad_rows=skip_bad_rows)
        async for events in store.export():
            user_id = events[0].user_id
            for event in events:
                if event.kind is EventKind.WATCH:
                    _write(watches, _watch(event))
                    done.watch_count += 1
            _write_joined(user_id, events, answers, shown, impressions, done)
            answers.mark_exported(user_id)
        for user_id in answers.other_user_ids():
            _write_joined(user_id, (), answers, shown, impressions, done)
    return done


class _Answers:
    """The answers of the log, by user, in a file of its own."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute(f"PRAGMA cache_size = -{CACHE_KIBIBYTES}")
        self._connection.executescript(_TABLES)

    def read(self, logs: Sequence[Path], done: Exported, *, skip_bad_rows: bool) -> None:
        """Read all files of the logs."""
        deleted = DeletedUsers.read(logs)
        self._connection.execute("BEGIN")
        for path in log_files(logs):
            for line, record in read_lines(path, done.damage, skip_bad_rows=skip_bad_rows):
                if deleted.include(record):
                    done.deleted_answer_count += 1
                elif self._connection.execute(_KEEP, (record.recommendation_id, record.user_id, line)).rowcount:
                    done.answer_count += 1
                else:
                    done.repeated_answer_count += 1
        self._connection.execute("COMMIT")
        self._connection.execute("CREATE INDEX of_user ON answers (user_id)")
        self._connection.execute("BEGIN")

    def of_user(self, user_id: str) -> list[AnswerRecord]:
        """Return the latest MAX_ANSWERS_PER_USER answers to a user, oldest first."""
        lines = self._connection.execute(_OF_USER, (user_id, MAX_ANSWERS_PER_USER)).fetchall()
        return [record_of(line) for (line,) in reversed(lines)]

    def count_of_user(self, user_id: str) -> int:
        """Return how many answers to a user there are."""
        return int(self._connection.execute(_COUNT_OF_USER, (user_id,)).fetchone()[0])

    def has(self, recommendation_id: str) -> bool:
        """Whether there is an answer of this id, whoever got it."""
        return self._connection.execute(_OF_ID, (recommendation_id,)).fetchone() is not None

    def mark_exported(self, user_id: str) -> None:
        """Leave a user out of `other_user_ids`."""
        self._connection.execute("INSERT INTO exported VALUES (?) ON CONFLICT DO NOTHING", (user_id,))

    def other_user_ids(self) -> Iterator[str]:
        """Yield the users who are not marked."""
        for (user_id,) in self._connection.execute(_REST):
            yield user_id

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def _write_joined(
    user_id: str, events: Sequence[Event], answers: _Answers, shown: Shown, file: BinaryIO, done: Exported
) -> None:
    own = answers.of_user(user_id)
    joined = join(events, own, shown)
    for impression in joined.impressions:
        _write(file, _impression(user_id, impression))
        done.clicked_count += impression.clicked
    own_ids = {answer.recommendation_id for answer in own}
    foreign = sum(id_ not in own_ids and answers.has(id_) for id_ in joined.unmatched_ids)
    if len(own) == MAX_ANSWERS_PER_USER:
        done.omitted_answer_count += answers.count_of_user(user_id) - len(own)
    done.user_count += 1
    done.impression_count += len(joined.impressions)
    done.foreign_citation_count += foreign
    done.unknown_citation_count += len(joined.unmatched_ids) - foreign


def _watch(event: Event) -> Mapping[str, Any]:
    return {
        "user_id": event.user_id,
        "item_id": event.item_id,
        "timestamp": event.timestamp_seconds,
        "weight": 1.0 if event.weight is None else event.weight,
    }


def _impression(user_id: str, impression: Impression) -> Mapping[str, Any]:
    answer = impression.answer
    return {
        "user_id": user_id,
        "item_id": impression.item_id,
        "timestamp": impression.timestamp,
        "clicked": impression.clicked,
        "watch_seconds": impression.watch_seconds,
        "recommendation_id": impression.recommendation_id or None,
        "place": impression.place,
        "score": impression.score,
        "release_id": answer and answer.release_id,
        "arm": answer and answer.arm,
        "degradation": answer and answer.degradation,
    }


@contextmanager
def _empty_directory(path: Path) -> Iterator[Path]:
    """Yield a directory that is removed afterwards. What a killed process has left in it is removed first."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _lines_to(path: Path) -> Iterator[BinaryIO]:
    """Yield a compressed file that takes its place as a whole."""
    with whole_file(path) as file, gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as lines:
        yield cast("BinaryIO", lines)


def _write(file: BinaryIO, row: Mapping[str, Any]) -> None:
    file.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
