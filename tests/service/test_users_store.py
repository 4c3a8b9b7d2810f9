"""The store of users under a gateway that is killed, a full disk, and several processes: by an independent ledger."""

import resource
import signal
import sqlite3
from pathlib import Path

import pytest

from tests.service.event_ledger import USERS, Ledger, fill, stored_events, wait_for, writers
from tests.service.process import running
from winnow.client import Event, EventKind, WinnowClient


def flags(store: Path) -> list[str]:
    return [f"--users-store={store}", "--users-max-events=2000"]


@pytest.mark.parametrize("workers", [1, 2])
def test_acknowledged_events_survive_a_kill(releases: Path, tmp_path: Path, workers: int) -> None:
    ledger, store = Ledger(), tmp_path / "users.db"
    for life in range(2):
        with (
            running("gateway", releases, *flags(store), f"--workers={workers}") as service,
            writers(service.target, ledger, f"life {life}"),
        ):
            wait_for(ledger, 40)
            service.process.send_signal(signal.SIGKILL)
            service.process.communicate()
    with running("gateway", releases, *flags(store)) as service:
        ledger.check(stored_events(service.target))


def test_a_full_disk_costs_writes_only_and_none_by_half(releases: Path, tmp_path: Path) -> None:
    ledger, store = Ledger(), tmp_path / "users.db"
    with (
        running("gateway", releases, *flags(store)) as service,
        WinnowClient(service.target, timeout_seconds=10) as client,
    ):
        _, unlimited = resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE)
        with writers(service.target, ledger, "load"):
            wait_for(ledger, 20)
            written = max(path.stat().st_size for path in tmp_path.iterdir())
            resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (written, unlimited))
            fill(client, "filler")
            client.history(USERS[0])
            resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (unlimited, unlimited))
            wait_for(ledger, 20)
        ledger.check(stored_events(service.target))


def test_a_deleted_user_is_not_in_the_files(releases: Path, tmp_path: Path) -> None:
    with (
        running("gateway", releases, *flags(tmp_path / "users.db")) as service,
        WinnowClient(service.target, timeout_seconds=5) as client,
    ):
        for number in range(30):
            client.write_events(
                Event(user_id=user_id, item_id=f"item of {user_id}", kind=EventKind.WATCH, time=number + 1)
                for user_id in USERS
            )
        assert USERS[0].encode() in contents(tmp_path)
        assert client.delete_user(USERS[0]) == 30
        assert USERS[0].encode() not in contents(tmp_path)
        assert USERS[1].encode() in contents(tmp_path)


def contents(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.iterdir() if not path.name.endswith("-shm"))


def test_a_file_that_is_no_store_is_an_error_at_the_start(releases: Path, tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("not a database, but longer than the header of one: " * 5)
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE somebody_elses (id)")
    for name in ("text.db", "other.db", "no directory/users.db"):
        with pytest.raises(AssertionError, match="users store"), running("gateway", releases, *flags(tmp_path / name)):
            pass
    with pytest.raises(AssertionError, match="users store"), running("gateway", releases, "--users-store=ftp://x"):
        pass
