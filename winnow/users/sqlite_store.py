"""Events in one SQLite file: for one machine, whose processes may share the file.

The write-ahead log lets readers go on while one process writes. A commit is on disk before it is acknowledged.
"""

import sqlite3
from collections.abc import AsyncIterator, Collection, Sequence
from pathlib import Path

from winnow.users.events import Event, EventKind
from winnow.users.sqlite_connection import SqliteConnection, transaction
from winnow.users.store import StoreError

# "Winn" and the version of the tables below.
APPLICATION_ID, FORMAT = 0x57696E6E, 1
EXPORTED_USERS = 200

# One tree, in which the events of a user lie together.
_TABLE = """
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
_DELETE = "DELETE FROM events WHERE user_id = ?"
_NEXT_USERS = "SELECT DISTINCT user_id FROM events WHERE user_id > ? ORDER BY user_id LIMIT ?"

_KINDS = {int(kind): kind for kind in EventKind}
_EVERY_KIND = sum(1 << kind for kind in EventKind)


class SqliteStore:
    """See HistoryStore. Reads and writes have a thread each: the event loop never waits for the disk."""

    def __init__(self, path: Path, max_events: int) -> None:
        """Keep `max_events` of each kind for each user."""
        self._path = path
        self._max_events = max_events
        self._reader = SqliteConnection(path)
        self._writer = SqliteConnection(path)

    async def open(self) -> None:
        """See HistoryStore.open. Makes the file if there is none; later a file that is gone is an error."""
        try:
            await self._writer.make(self._make)
        except StoreError as error:
            raise ValueError(f"users store {self._path} cannot be opened ({error})") from error

    async def append(self, events: Sequence[Event]) -> None:
        """See HistoryStore.append."""
        if events:
            await self._writer.run(self._append, events)

    async def read(self, user_ids: Sequence[str], kinds: Collection[int]) -> list[list[Event]]:
        """See HistoryStore.read."""
        return await self._reader.run(_read, user_ids, sum(1 << kind for kind in set(kinds)))

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
        await self._reader.close()
        await self._writer.close()

    def _make(self, connection: sqlite3.Connection) -> None:
        with transaction(connection):
            application_id = connection.execute("PRAGMA application_id").fetchone()[0]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
            if empty:
                connection.execute(_TABLE)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {FORMAT}")
            elif (application_id, version) != (APPLICATION_ID, FORMAT):
                raise ValueError(f"users store {self._path} is not a file that this version of Winnow has made")

    def _append(self, connection: sqlite3.Connection, events: Sequence[Event]) -> None:
        with transaction(connection):
            connection.executemany(_APPEND, events)
            for user_id in {event.user_id for event in events}:
                for (kind,) in connection.execute(_TOO_MANY, (user_id, self._max_events)).fetchall():
                    connection.execute(_TRIM, (user_id, kind, self._max_events))


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


def _delete(connection: sqlite3.Connection, user_id: str) -> int:
    with transaction(connection):
        deleted_count = connection.execute(_DELETE, (user_id,)).rowcount
    # The log holds what was written until it is emptied. Where a reader is in the way, a later checkpoint does it.
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return deleted_count


def _next_users(connection: sqlite3.Connection, last_user_id: str) -> list[str]:
    return [user_id for (user_id,) in connection.execute(_NEXT_USERS, (last_user_id, EXPORTED_USERS))]
