"""One connection to an SQLite file, used by one thread of its own."""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from winnow.users.store import StoreError

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

# How long a process waits for another one to finish writing, and how often it looks. SQLite itself looks every 0.1
# seconds: beside a process that always has more to write, it hardly ever finds the file free.
BUSY_SECONDS = 2.0
BUSY_LOOK_SECONDS = 0.001
# How long a starting process waits for others that start too: who is the first makes the file.
MAKE_SECONDS = 10.0
LOOK_SECONDS = 0.05
CACHE_KIBIBYTES = 16 * 1024


class SqliteConnection:
    """Connects when it is used, and anew after an error or where another file has taken the place of the one in use."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="users")
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    async def run(
        self,
        work: Callable[Concatenate[sqlite3.Connection, Parameters], Result],
        *arguments: Parameters.args,
        **named_arguments: Parameters.kwargs,
    ) -> Result:
        """Return what `work` returns for the connection. Raises StoreError where SQLite gives no answer."""

        def run() -> Result:
            try:
                return work(self._connected(), *arguments, **named_arguments)
            except (sqlite3.Error, OSError) as error:
                self._disconnect()
                raise StoreError(_name(error)) from error

        return await asyncio.get_running_loop().run_in_executor(self._thread, run)

    async def make(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """As `run`, but makes the file, if there is none, and waits longer for others that do so."""

        def run() -> None:
            give_up = time.monotonic() + MAKE_SECONDS
            while True:
                try:
                    self._connect("rwc")
                    work(self._connected())
                    return
                except (sqlite3.Error, OSError) as error:
                    self._disconnect()
                    busy = getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
                    if not busy or time.monotonic() > give_up:
                        raise StoreError(_name(error)) from error
                    time.sleep(LOOK_SECONDS)

        await asyncio.get_running_loop().run_in_executor(self._thread, run)

    async def close(self) -> None:
        """Finish what is under way and disconnect."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown(wait=False)

    def _connected(self) -> sqlite3.Connection:
        # Whoever writes to a file that was deleted or replaced loses what is written.
        if self._connection is not None and self._file != _identity(self._path):
            self._disconnect()
        return self._connection or self._connect("rw")

    def _connect(self, mode: str) -> sqlite3.Connection:
        uri = f"{self._path.absolute().as_uri()}?mode={mode}"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_SECONDS)
        self._connection, self._file = connection, _identity(self._path)
        # Each commit is on disk before it returns, and what is deleted is overwritten.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIBIBYTES}")
        return connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All that is written within it, or nothing."""
    _begin(connection)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # SQLite has rolled back by itself after some errors, such as a full disk.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _begin(connection: sqlite3.Connection) -> None:
    give_up = time.monotonic() + BUSY_SECONDS
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                    raise
            time.sleep(BUSY_LOOK_SECONDS)
    finally:
        connection.execute(f"PRAGMA busy_timeout = {round(BUSY_SECONDS * 1000)}")


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _name(error: Exception) -> str:
    """What went wrong: the name that SQLite or the system has for it."""
    return getattr(error, "sqlite_errorname", None) or type(error).__name__
