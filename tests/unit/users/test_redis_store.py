"""What the Redis store promises beyond the contract, with a real server: killed, stopped and full."""

import asyncio
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.settings import MAX_STORED_EVENTS
from tests.redis_server import RedisServer, redis_server
from tests.unit.users.events import event
from winnow.users.addresses import store_at
from winnow.users.events import ALL_KINDS, Event, EventKind
from winnow.users.store import StoreError


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as running:
        yield running


def test_acknowledged_events_survive_a_kill_of_the_server(server: RedisServer) -> None:
    async def run() -> None:
        store = store_at(server.address, 1000)
        await store.open()
        acknowledged = [event(str(at)) for at in range(50)]
        await asyncio.gather(*(store.append([one]) for one in acknowledged))
        server.kill()
        for call in (
            lambda: store.append([event("51")]),
            lambda: store.read(["ann"], ALL_KINDS),
            lambda: store.delete("ann"),
            lambda: anext(store.export()),
        ):
            with pytest.raises(StoreError):
                await call()
        server.start()
        [found] = await store.read(["ann"], ALL_KINDS)
        assert set(acknowledged) <= set(found)
        await store.append([event("52")])
        await store.close()

    asyncio.run(run())


@pytest.mark.parametrize("suffix", ["watch", "watch:times"])
def test_half_of_a_user_that_was_evicted_spoils_no_read_of_others(server: RedisServer, suffix: str) -> None:
    async def run() -> None:
        store = store_at(server.address, 10)
        await store.append([event("1"), event("1", "bea"), event("2", "bea", EventKind.CLICK)])
        assert server.command("DEL", f"winnow:2:{{bea}}:{suffix}") == b":1\r\n"
        click = event("2", "bea", EventKind.CLICK)
        assert await store.read(["bea", "ann"], ALL_KINDS) == [[click], [event("1")]]
        assert [list(found.item_ids) for found in await store.histories(["bea", "ann"])] == [[], ["item 1"]]
        await store.close()

    asyncio.run(run())


def test_a_gateway_may_start_while_the_server_is_away(server: RedisServer) -> None:
    async def run() -> None:
        server.kill()
        store = store_at(server.address, 10)
        await store.open()
        server.start()
        await store.append([event("1")])
        await store.close()

    asyncio.run(run())


def test_a_server_that_wants_a_password_is_an_error_at_the_start(server: RedisServer) -> None:
    server.command("CONFIG", "SET", "requirepass", "secret-password")

    async def open_store(address: str) -> None:
        store = store_at(address, 10)
        try:
            await store.open()
        finally:
            await store.close()

    for address in (server.address, server.address.replace("//", "//:wrong-password@")):
        with pytest.raises(ValueError, match="refuses the gateway") as raised:
            asyncio.run(open_store(address))
        assert "password" not in str(raised.value)
    asyncio.run(open_store(server.address.replace("//", "//:secret-password@")))


def test_a_wrong_url_is_an_error_that_does_not_quote_it(server: RedisServer) -> None:
    for url in ("redis://:secret/x@localhost", "redis://localhost:secret", "redis://localhost/0?socket_timeout=secret"):
        with pytest.raises(ValueError, match="users store") as raised:
            store_at(url, 10)
        assert "secret" not in str(raised.value)


def test_a_server_that_hangs_is_an_error_in_the_end(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("winnow.users.redis_store.ANSWER_SECONDS", 0.2)

    async def run() -> None:
        store = store_at(server.address, 10)
        await store.append([event("1")])
        assert server.process is not None
        server.process.send_signal(signal.SIGSTOP)
        with pytest.raises(StoreError, match="TimeoutError"):
            await store.read(["ann"], ALL_KINDS)
        server.process.send_signal(signal.SIGCONT)
        assert await store.read(["ann"], ALL_KINDS) == [[event("1")]]
        await store.close()

    asyncio.run(run())


def test_the_longest_history_is_read_in_one_go(server: RedisServer) -> None:
    async def run() -> None:
        count = MAX_STORED_EVENTS
        store = store_at(server.address, count)
        events = [
            event(f"{kind} {at}", kind=kind, timestamp_seconds=1 + len(EventKind) * at + kind)
            for at in range(count + 5)
            for kind in EventKind
        ]
        await store.append(events)
        [found] = await store.read(["ann"], ALL_KINDS)
        assert found == events[5 * len(EventKind) :]
        await store.close()

    asyncio.run(run())


def test_a_full_memory_costs_writes_only_and_none_by_half(server: RedisServer) -> None:
    def filler(number: int) -> list[Event]:
        return [event(f"{number} {at}", user_id=f"user {at}", item_id="x" * 500) for at in range(20)]

    async def run() -> None:
        store = store_at(server.address, 1000)
        await store.append([event("1")])
        server.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
        server.command("CONFIG", "SET", "maxmemory", "6mb")
        acknowledged = 0

        async def fill() -> None:
            nonlocal acknowledged
            for number in range(10_000):
                await store.append(filler(number))
                acknowledged += 1

        with pytest.raises(StoreError):
            await fill()
        assert acknowledged
        found = await store.read(["ann", *(f"user {at}" for at in range(20))], ALL_KINDS)
        assert list(map(len, found)) == [1, *[acknowledged] * 20]
        assert await store.delete("user 1") == acknowledged
        await store.close()

    asyncio.run(run())


def test_all_keys_of_a_user_lie_in_one_slot_of_a_cluster(server: RedisServer) -> None:
    users = ["ann", "}", "{", "{}", "a}b{c", "é \r\n", "%7D"]

    async def run() -> None:
        store = store_at(server.address, 10)
        await store.append([event(kind.name, user_id=user, kind=kind) for user in users for kind in EventKind])
        await store.close()

    asyncio.run(run())
    keys = re.findall(rb"winnow:2:[^\r]*", server.command("KEYS", "*"))
    assert len(keys) == 2 * len(EventKind) * len(users)
    tags = [re.search(rb"\{([^}]+)\}", key) for key in keys]
    assert len({tag[1] for tag in tags if tag is not None}) == len(users)
    assert None not in tags
