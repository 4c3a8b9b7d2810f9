"""Gateway and Valkey server under load: the server is killed, hangs, and its memory fills. By an independent ledger."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.redis_server import RedisServer, redis_server
from tests.service.event_ledger import USERS, Ledger, fill, stored_events, wait_for, writers
from tests.service.process import RunningService, running
from winnow.client import Event, WinnowClient, WinnowError

MARGIN_BYTES = 2 * 2**20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("valkey")) as started:
        yield started


@pytest.fixture(scope="module")
def gateway(releases: Path, server: RedisServer) -> Iterator[RunningService]:
    with running("gateway", releases, f"--users-store={server.address}", "--users-max-events=2000") as service:
        yield service


@pytest.fixture(autouse=True)
def nothing_is_stored(gateway: RunningService) -> None:
    with WinnowClient(gateway.target, timeout_seconds=10) as client:
        for user_id in USERS:
            client.delete_user(user_id)


def used_bytes(server: RedisServer) -> int:
    found = re.search(rb"used_memory:(\d+)", server.command("INFO", "memory"))
    assert found is not None
    return int(found[1])


def test_acknowledged_events_survive_a_kill_of_the_server(gateway: RunningService, server: RedisServer) -> None:
    ledger = Ledger()
    with writers(gateway.target, ledger, "load"):
        for _ in range(2):
            wait_for(ledger, 40)
            server.kill()
            server.start()
        wait_for(ledger, 20)
    ledger.check(stored_events(gateway.target))


def test_a_server_that_hangs_costs_time_but_no_acknowledged_event(gateway: RunningService, server: RedisServer) -> None:
    ledger = Ledger()
    assert server.process is not None
    with writers(gateway.target, ledger, "load"):
        wait_for(ledger, 20)
        server.process.send_signal(signal.SIGSTOP)
        with WinnowClient(gateway.target, timeout_seconds=1, retries=False) as client:
            for call in (lambda: client.write_events([Event(user_id="x", item_id="x")]), lambda: client.history("x")):
                with pytest.raises(WinnowError) as raised:
                    call()
                assert raised.value.code in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)
        server.process.send_signal(signal.SIGCONT)
        wait_for(ledger, 20)
    ledger.check(stored_events(gateway.target))


def test_a_full_memory_costs_writes_only_and_none_by_half(gateway: RunningService, server: RedisServer) -> None:
    ledger = Ledger()
    server.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    with WinnowClient(gateway.target, timeout_seconds=10) as client, writers(gateway.target, ledger, "load"):
        wait_for(ledger, 20)
        server.command("CONFIG", "SET", "maxmemory", str(used_bytes(server) + MARGIN_BYTES))
        fill(client, "filler")
        # Reading and deleting go on, and deleting makes room.
        assert client.history(USERS[0])
        assert client.delete_user("filler") > 0
        server.command("CONFIG", "SET", "maxmemory", "0")
        wait_for(ledger, 20)
    ledger.check(stored_events(gateway.target))
