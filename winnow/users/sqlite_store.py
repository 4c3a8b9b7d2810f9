"""Events in one SQLite file: for one machine, whose processes may share the file.

The write-ahead log lets readers go on while one process writes. A commit is on disk before it is acknowledged.
"""

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from winnow.users.events import NO_HISTORY, Event, EventKind, UserHistory
from winnow.users.sqlite_connection import SqliteConnection, transaction
from winnow.users.store import StoreError

Result = TypeVar("Result")

# "Winn" and the version of the tables below.
APPLICATION_ID, FORMAT = 0x57696E6E, 2
EXPORTED_USERS = 200

# Stale users are looked for this often, as a share of the retention, and removed in transactions of about so many
# events. After each step comes a pause of so many times its length: reads and writes hardly notice.
CLEANING_SHARE, LONGEST_CLEANING_SECONDS = 0.1, 3600.0
LOOKED_AT_USERS, REMOVED_EVENTS = 1000, 500
CLEANING_PAUSE_FACTOR = 4.0
# When a user was written to last is stored with this precision, as a share of the retention: seldom.
WRITTEN_SHARE, LONGEST_WRITTEN_SECONDS = 0.01, 3600.0

_TABLES = (
    # One tree, in which the events of a user lie together.
    """
CREATE TABLE events (
    user_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    kind INTEGER NOT NULL,
    item_id TEXT NOT NULL,
    timestamp_seconds INTEGER NOT NULL,
    weight REAL,
    recommendation_id TEXT NOT NULL,
    PRIMARY KEY (user_id, event_id)
) WITHOUT ROWID
""",
    "CREATE TABLE users (user_id TEXT PRIMARY KEY, written_seconds REAL NOT NULL) WITHOUT ROWID",
)
_WRITTEN = """
INSERT INTO users VALUES (?1, ?2) ON CONFLICT DO UPDATE SET written_seconds = ?2 WHERE written_seconds < ?2 - ?3
"""
_APPEND = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
_TOO_MANY = "SELECT kind FROM events WHERE user_id = ? GROUP BY kind HAVING count(*) > ?"
_TRIM = """
DELETE FROM events WHERE user_id = ?1 AND event_id IN (
    SELECT event_id FROM events WHERE user_id = ?1 AND kind = ?2
    ORDER BY timestamp_seconds DESC, event_id DESC LIMIT -1 OFFSET ?3
)
"""
_READ = "SELECT * FROM events WHERE user_id = ? AND (1 << kind) & ? ORDER BY timestamp_seconds, event_id"
# All users in one row: the thread lets go of Python's lock once, and not for each event. Ids are bound, and never read
# from JSON, where SQLite ends a text at a zero. Events come by event id, which often is by time already.
_HISTORIES = """
WITH asked(user_id) AS (VALUES {asked})
SELECT json_group_array((
    SELECT json_array(
        json_group_array(item_id) FILTER (WHERE kind = {watch}),
        json_group_array(weight) FILTER (WHERE kind = {watch}),
        json_group_array(timestamp_seconds) FILTER (WHERE kind = {watch}),
        json_group_array(item_id) FILTER (WHERE kind = {dismissal})
    )
    FROM (
        SELECT kind, item_id, weight, timestamp_seconds FROM events
        WHERE user_id = asked.user_id AND kind IN ({watch}, {dismissal})
        ORDER BY event_id
    )
)) FROM asked
"""
_DELETE = "DELETE FROM events WHERE user_id = ?"
_FORGET = "DELETE FROM users WHERE user_id = ?"
_NEXT_USERS = "SELECT user_id FROM users WHERE user_id > ? ORDER BY user_id LIMIT ?"
_WRITTEN_USERS = "SELECT user_id, written_seconds FROM users WHERE user_id > ? ORDER BY user_id LIMIT ?"
_STALE = "SELECT count(*) FROM users WHERE user_id = ? AND written_seconds < ?"

_KINDS = {int(kind): kind for kind in EventKind}
_EVERY_KIND = sum(1 << kind for kind in EventKind)


class SqliteStore:
    """See HistoryStore. Reads and writes have a thread each: the event loop never waits for the disk."""

    def __init__(self, path: Path, max_events: int, retention_seconds: float = 0) -> None:
        """Keep `max_events` of each kind for each user, and users as `store_at` says."""
        self._path = path
        self._max_events = max_events
        self._retention_seconds = retention_seconds
        self._precision_seconds = min(
            WRITTEN_SHARE * retention_seconds or LONGEST_WRITTEN_SECONDS, LONGEST_WRITTEN_SECONDS
        )
        self._cleaning: asyncio.Task[None] | None = None
        self._reader = SqliteConnection(path)
        self._writer = SqliteConnection(path)

    async def open(self) -> None:
        """See HistoryStore.open. Makes the file if there is none; later a file that is gone is an error."""
        try:
            await self._writer.make(self._make)
        except StoreError as error:
            raise ValueError(f"users store {self._path} cannot be opened ({error})") from error
        if self._retention_seconds and self._cleaning is None:
            self._cleaning = asyncio.create_task(self._clean())

    async def append(self, events: Sequence[Event]) -> None:
        """See HistoryStore.append."""
        if events:
            await self._writer.run(self._append, events)

    async def read(self, user_ids: Sequence[str], kinds: Collection[int]) -> list[list[Event]]:
        """See HistoryStore.read."""
        return await self._reader.run(_read, user_ids, sum(1 << kind for kind in set(kinds)))

    async def histories(self, user_ids: Sequence[str]) -> list[UserHistory]:
        """See HistoryStore.histories."""
        return await self._reader.run(_histories, user_ids) if user_ids else []

    async def delete(self, user_id: str) -> int:
        """See HistoryStore.delete. What is deleted is overwritten: in the log as soon as nobody reads it."""
        return await self._writer.run(_delete, user_id)

    async def export(self) -> AsyncIterator[Sequence[Event]]:
        """See HistoryStore.export."""
        last = ""
        while user_ids := await self._reader.run(_next_users, last):
            for events in await self._reader.run(_read, user_ids, _EVERY_KIND):
                yield events
            last = user_ids[-1]

    async def close(self) -> None:
        """See HistoryStore.close."""
        if self._cleaning is not None:
            self._cleaning.cancel()
            await asyncio.wait([self._cleaning])
        await self._reader.close()
        await self._writer.close()

    def _make(self, connection: sqlite3.Connection) -> None:
        # Before anything is written: a file that is somebody else's stays as it is.
        self._is_empty(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        with transaction(connection):
            if self._is_empty(connection):
                for table in _TABLES:
                    connection.execute(table)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {FORMAT}")

    def _is_empty(self, connection: sqlite3.Connection) -> bool:
        """Raise ValueError where there is something that this version has not made."""
        # First: who makes the tables writes both numbers in the same transaction.
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
            return True
        application_id = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if (application_id, version) != (APPLICATION_ID, FORMAT):
            raise ValueError(f"users store {self._path} is not a file that this version of Winnow has made")
        return False

    def _append(self, connection: sqlite3.Connection, events: Sequence[Event]) -> None:
        with transaction(connection):
            connection.executemany(_APPEND, events)
            now = time.time()
            for user_id in {event.user_id for event in events}:
                connection.execute(_WRITTEN, (user_id, now, self._precision_seconds))
                for (kind,) in connection.execute(_TOO_MANY, (user_id, self._max_events)).fetchall():
                    connection.execute(_TRIM, (user_id, kind, self._max_events))

    async def _clean(self) -> None:
        """Remove stale users again and again. Another process may do the same."""
        pause_seconds = min(CLEANING_SHARE * self._retention_seconds, LONGEST_CLEANING_SECONDS)
        while True:
            await asyncio.sleep(pause_seconds)
            # Where the store cannot be used, requests say so; the next turn tries again.
            with suppress(StoreError):
                await self._remove_stale(time.time() - self._retention_seconds - self._precision_seconds)

    async def _remove_stale(self, written_before: float) -> None:
        last = ""
        while users := await _unhurried(self._reader.run(_written_users, last)):
            stale = [user_id for user_id, written_seconds in users if written_seconds < written_before]
            while stale:
                done_count = await _unhurried(self._writer.run(_remove_users, stale, written_before))
                stale = stale[done_count:]
            last, _ = users[-1]


async def _unhurried(step: Awaitable[Result]) -> Result:
    loop = asyncio.get_running_loop()
    started = loop.time()
    result = await step
    await asyncio.sleep(CLEANING_PAUSE_FACTOR * (loop.time() - started))
    return result


def _read(connection: sqlite3.Connection, user_ids: Sequence[str], wanted_kinds: int) -> list[list[Event]]:
    """Bit k of `wanted_kinds` asks for events of kind k."""
    return [
        [
            Event(user_id, event_id, _KINDS[kind], item_id, seconds, weight, recommendation_id)
            for user_id, event_id, kind, item_id, seconds, weight, recommendation_id in connection.execute(
                _READ, (user_id, wanted_kinds)
            )
        ]
        for user_id in user_ids
    ]


def _histories(connection: sqlite3.Connection, user_ids: Sequence[str]) -> list[UserHistory]:
    asked = ", ".join(["(?)"] * len(user_ids))
    query = _HISTORIES.format(asked=asked, watch=int(EventKind.WATCH), dismissal=int(EventKind.DISMISSAL))
    [(found,)] = connection.execute(query, user_ids).fetchall()
    return [_by_time(*columns) if any(columns) else NO_HISTORY for columns in json.loads(found)]


def _by_time(item_ids: list[str], weights: list[float | None], times: list[int], dismissed: list[str]) -> UserHistory:
    """Watches of the same second stay in their order."""
    ordered = sorted(times)
    if ordered == times:
        return UserHistory(item_ids, weights, times, dismissed)
    places = sorted(range(len(times)), key=times.__getitem__)
    return UserHistory([item_ids[at] for at in places], [weights[at] for at in places], ordered, dismissed)


def _delete(connection: sqlite3.Connection, user_id: str) -> int:
    with transaction(connection):
        deleted_count = connection.execute(_DELETE, (user_id,)).rowcount
        connection.execute(_FORGET, (user_id,))
    # The log holds what was written until it is emptied. Where a reader is in the way, a later checkpoint does it.
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return deleted_count


def _next_users(connection: sqlite3.Connection, last_user_id: str) -> list[str]:
    return [user_id for (user_id,) in connection.execute(_NEXT_USERS, (last_user_id, EXPORTED_USERS))]


def _written_users(connection: sqlite3.Connection, last_user_id: str) -> list[tuple[str, float]]:
    return connection.execute(_WRITTEN_USERS, (last_user_id, LOOKED_AT_USERS)).fetchall()


def _remove_users(connection: sqlite3.Connection, user_ids: Sequence[str], written_before: float) -> int:
    """Remove users who are still stale, in order, until many events are gone; return how many were looked at."""
    removed_count = 0
    with transaction(connection):
        for seen_count, user_id in enumerate(user_ids, start=1):
            # Somebody may have written since it was looked at.
            if connection.execute(_STALE, (user_id, written_before)).fetchone()[0]:
                removed_count += connection.execute(_DELETE, (user_id,)).rowcount
                connection.execute(_FORGET, (user_id,))
            if removed_count >= REMOVED_EVENTS:
                return seen_count
    return len(user_ids)
