"""Gateway and Valkey server under load: the server is killed and its memory fills. By an independent ledger."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.redis_server import RedisServer, redis_server
from tests.service.event_ledger import USERS, Ledger, stored_events, wait_for, writers
from tests.service.process import RunningService, running
from winnow.client import Event, WinnowClient, WinnowError

MARGIN_BYTES = 2 * 2**20


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as started:
        yield started


@pytest.fixture
def gateway(releases: Path, server: RedisServer) -> Iterator[RunningService]:
    with running("gateway", releases, f"--users-store={server.address}", "--users-max-events=2000") as service:
        yield service


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


def test_a_full_memory_costs_writes_only_and_none_by_half(gateway: RunningService, server: RedisServer) -> None:
    ledger = Ledger()
    server.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    with WinnowClient(gateway.target, timeout_seconds=10) as client, writers(gateway.target, ledger, "load"):
        wait_for(ledger, 20)
        server.command("CONFIG", "SET", "maxmemory", str(used_bytes(server) + MARGIN_BYTES))
        give_up = time.monotonic() + 60
        while True:
            assert time.monotonic() < give_up, "the memory never fills"
            try:
                client.write_events([Event(user_id="filler", item_id="x" * 500) for _ in range(200)])
            except WinnowError as error:
                assert error.code is grpc.StatusCode.UNAVAILABLE
                break
        # Reading and deleting go on, and deleting makes room.
        assert client.history(USERS[0])
        assert client.delete_user("filler") > 0
        server.command("CONFIG", "SET", "maxmemory", "0")
        wait_for(ledger, 20)
    ledger.check(stored_events(gateway.target))
