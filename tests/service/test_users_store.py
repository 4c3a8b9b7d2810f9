"""The store of users under a gateway that is killed, a full disk, and several processes: by an independent ledger."""

import resource
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from tests.service.process import running
from winnow.client import Event, EventKind, WinnowClient, WinnowError

USERS = [f"secret-user-{number}" for number in range(6)]
WRITERS = 4
EVENTS_PER_CALL = 5


@dataclass
class Ledger:
    """What writers have sent, a call at a time, and what was acknowledged."""

    sent: list[list[Event]] = field(default_factory=list)
    acknowledged: list[list[Event]] = field(default_factory=list)

    def check(self, stored: set[Event]) -> None:
        """Every acknowledged event is stored, and each call as a whole or not at all."""
        assert self.acknowledged
        for call in self.acknowledged:
            assert stored.issuperset(call)
        for call in self.sent:
            assert len(stored.intersection(call)) in (0, len(call))
        assert stored <= {event for call in self.sent for event in call}


@contextmanager
def writers(target: str, ledger: Ledger, name: str) -> Iterator[None]:
    """Write from several threads until the block ends."""
    stop = threading.Event()
    with WinnowClient(target, timeout_seconds=3, retries=False) as client:

        def write(number: int) -> None:
            count = 0
            while not stop.is_set():
                count += 1
                call = [
                    Event(
                        user_id=USERS[(number + count + at) % len(USERS)],
                        item_id=f"secret-item-{at}",
                        time=1_700_000_000 + count,
                        event_id=f"{name} {number} {count} {at}",
                    )
                    for at in range(EVENTS_PER_CALL)
                ]
                ledger.sent.append(call)
                try:
                    client.write_events(call)
                    ledger.acknowledged.append(call)
                except WinnowError:
                    stop.wait(0.02)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def wait_for(ledger: Ledger, count: int) -> None:
    give_up = time.monotonic() + 60
    wanted = len(ledger.acknowledged) + count
    while len(ledger.acknowledged) < wanted:
        assert time.monotonic() < give_up, "hardly any event is acknowledged"
        time.sleep(0.01)


def stored_events(target: str) -> set[Event]:
    with WinnowClient(target, timeout_seconds=10) as client:
        return {event for user_id in USERS for event in client.history(user_id)}


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
            give_up = time.monotonic() + 60
            while True:
                assert time.monotonic() < give_up, "the disk never fills"
                try:
                    client.write_events([Event(user_id="filler", item_id="x" * 500) for _ in range(200)])
                except WinnowError as error:
                    assert error.code is grpc.StatusCode.UNAVAILABLE
                    break
            client.history(USERS[0])
            resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (unlimited, unlimited))
            wait_for(ledger, 20)
        ledger.check(stored_events(service.target))


def test_the_log_names_no_user_and_no_item(releases: Path, tmp_path: Path) -> None:
    store = tmp_path / "users.db"
    with running("gateway", releases, *flags(store)) as service:
        with WinnowClient(service.target, timeout_seconds=5) as client:
            client.write_events([Event(user_id=USERS[0], item_id="secret-item", event_id="secret-event")])
            client.recommend(["secret-item"], user_id=USERS[0])
            with pytest.raises(WinnowError):
                client.write_events([Event(user_id=USERS[0], item_id="secret-item", event_id="secret" * 20)])
            store.unlink()
            for call in (
                lambda: client.history(USERS[0]),
                lambda: client.delete_user(USERS[0]),
                lambda: client.retrieve(user_id=USERS[0]),
            ):
                with pytest.raises(WinnowError):
                    call()
            client.recommend(user_id=USERS[0])
        service.process.send_signal(signal.SIGTERM)
        _, log = service.process.communicate(timeout=20)
    assert "the store of users cannot be used" in log
    assert "secret" not in log


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
