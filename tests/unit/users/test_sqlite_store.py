"""What the SQLite store promises beyond the contract: one file, shared by processes, never blocking the event loop."""

import asyncio
import multiprocessing
import sqlite3
from pathlib import Path

import pytest

from tests.unit.users.events import event
from winnow.users.addresses import store_at
from winnow.users.events import ALL_KINDS
from winnow.users.sqlite_store import SqliteStore
from winnow.users.store import StoreError

EVENTS_PER_PROCESS = 20


def test_the_address_is_a_path_with_or_without_a_scheme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async def make(address: str) -> None:
        store = store_at(address, 10)
        await store.open()
        await store.close()

    for address, path in (
        (f"{tmp_path}/1.db", "1.db"),
        ("2.db", "2.db"),
        ("sqlite:///3 %2F?#.db", "3 %2F?#.db"),
        (f"sqlite:///{tmp_path}/4.db", "4.db"),
    ):
        asyncio.run(make(address))
        assert (tmp_path / path).is_file()
    for address in ("ftp://localhost", "sqlite://users.db", "sqlite:///"):
        with pytest.raises(ValueError, match="users store"):
            store_at(address, 10)


def write_from_a_process(path: Path, number: int) -> None:
    async def write() -> None:
        store = SqliteStore(path, 1000)
        await store.open()
        for at in range(EVENTS_PER_PROCESS):
            await store.append([event(f"{number} {at}", user_id=f"user {at % 2}")])
        await store.close()

    asyncio.run(write())


def test_processes_make_and_fill_one_file_together(tmp_path: Path) -> None:
    path = tmp_path / "users.db"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=write_from_a_process, args=(path, number)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]

    async def count() -> int:
        store = SqliteStore(path, 1000)
        await store.open()
        found = await store.read(["user 0", "user 1"], ALL_KINDS)
        await store.close()
        return sum(map(len, found))

    assert asyncio.run(count()) == 3 * EVENTS_PER_PROCESS


def test_a_file_that_is_gone_is_an_error_until_it_is_back(tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "users.db", tmp_path / "elsewhere.db"

    async def run() -> None:
        store = SqliteStore(path, 10)
        await store.open()
        await store.append([event("1")])
        path.rename(elsewhere)
        for operation in (store.append([event("2")]), store.delete("ann")):
            with pytest.raises(StoreError, match=r"FileNotFoundError|SQLITE_CANTOPEN"):
                await operation
        with pytest.raises(StoreError):
            await store.read(["ann"], ALL_KINDS)
        elsewhere.rename(path)
        await store.append([event("2")])
        assert await store.read(["ann"], ALL_KINDS) == [[event("1"), event("2")]]
        await store.close()

    asyncio.run(run())


def test_readers_and_the_event_loop_go_on_while_another_process_holds_the_file(tmp_path: Path) -> None:
    path = tmp_path / "users.db"

    async def run() -> None:
        store = SqliteStore(path, 10)
        await store.open()
        await store.append([event("1")])
        with sqlite3.connect(path, isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            writing = asyncio.create_task(store.append([event("2")]))
            assert await store.read(["ann"], ALL_KINDS) == [[event("1")]]
            assert not writing.done()
            with pytest.raises(StoreError, match="SQLITE_BUSY"):
                await writing
            other.execute("ROLLBACK")
        other.close()
        await store.append([event("2")])
        assert await store.read(["ann"], ALL_KINDS) == [[event("1"), event("2")]]
        await store.close()

    asyncio.run(run())


def test_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "users.db"

    async def open_store() -> None:
        store = SqliteStore(path, 10)
        try:
            await store.open()
        finally:
            await store.close()

    asyncio.run(open_store())
    with sqlite3.connect(path) as changed:
        changed.execute("PRAGMA user_version = 99")
    changed.close()
    with pytest.raises(ValueError, match="not a file that this version"):
        asyncio.run(open_store())


def test_a_database_of_somebody_else_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE somebody_elses (id)")
    other.close()
    before = path.read_bytes()

    async def open_store() -> None:
        store = SqliteStore(path, 10)
        with pytest.raises(ValueError, match="not a file that this version"):
            await store.open()
        await store.close()

    asyncio.run(open_store())
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["other.db"]


def test_a_writer_gets_its_turn_where_the_file_is_free_for_moments_only(tmp_path: Path) -> None:
    # SQLite itself would look after about 0.33, 0.43, 0.53, ... seconds: in between, the file is free.
    path = tmp_path / "users.db"

    async def run() -> None:
        store = SqliteStore(path, 10)
        await store.open()
        with sqlite3.connect(path, isolation_level=None, timeout=0) as other:
            other.execute("BEGIN IMMEDIATE")
            writing = asyncio.create_task(store.append([event("1")]))
            await asyncio.sleep(0.29)
            while not writing.done():
                await asyncio.sleep(0.09)
                other.execute("ROLLBACK")
                await asyncio.sleep(0.01)
                if not writing.done():
                    other.execute("BEGIN IMMEDIATE")
        other.close()
        await writing
        await store.close()

    asyncio.run(run())
