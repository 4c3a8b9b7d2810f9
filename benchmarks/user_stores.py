"""`python -m benchmarks.user_stores`: what a store takes for many users: space, memory, time of writes and reads.

Every user has 50 watches with ids, weights and times as the client writes them. The store is filled 100 users a
transaction, and then asked for users at random: 64 in one round trip, one alone, and new events of one user at a time.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.machine import describe_machine
from benchmarks.presets import item_id
from benchmarks.processes import memory_mebibytes
from tests.redis_server import RedisServer, redis_server
from winnow.rpc.uuid7 import uuid7
from winnow.users.addresses import store_at
from winnow.users.events import Event, EventKind
from winnow.users.store import HistoryStore

WATCHES, ITEM_COUNT = 50, 1_000_000
MAX_EVENTS = 1000
USERS_PER_APPEND, USERS_PER_READ = 100, 64
FIRST_TIME_SECONDS = 1_700_000_000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", choices=("sqlite", "valkey"), default="sqlite")
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--tries", type=int, default=300, help="of each read and write")
    parser.add_argument("--directory", type=Path, help="for the store's files, which are deleted; some gigabytes")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as temporary:
        directory = Path(temporary)
        if arguments.store == "sqlite":
            path = directory / "users.db"
            found = uvloop.run(_measure(str(path), arguments.users, arguments.tries))
            found["file_bytes_per_watch"] = round(path.stat().st_size / (arguments.users * WATCHES), 1)
            found["file_gigabytes"] = round(path.stat().st_size / 1e9, 2)
        else:
            with redis_server(directory) as server:
                empty = _used_memory(server)
                found = uvloop.run(_measure(server.address, arguments.users, arguments.tries))
                used = _used_memory(server) - empty
                found["server_bytes_per_watch"] = round(used / (arguments.users * WATCHES), 1)
                found["server_gigabytes"] = round(used / 1e9, 2)
    print(
        json.dumps(
            {"machine": describe_machine(), "store": arguments.store, "users": arguments.users, **found}, indent=1
        )
    )


async def _measure(address: str, user_count: int, tries: int) -> dict[str, Any]:
    store = store_at(address, MAX_EVENTS)
    await store.open()
    before = memory_mebibytes()["VmRSS"]
    started, cpu_started = time.monotonic(), time.process_time()
    for first in range(0, user_count, USERS_PER_APPEND):
        users = range(first, min(first + USERS_PER_APPEND, user_count))
        await store.append([event for user in users for event in _events(user)])
        if first % 50_000 == 0:
            print(f"{first} users, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    seconds, cpu_seconds = time.monotonic() - started, time.process_time() - cpu_started
    rng = random.Random(0)  # noqa: S311 - a load, no secret

    async def read_64() -> None:
        await store.histories([_user_id(user) for user in rng.sample(range(user_count), USERS_PER_READ)])

    async def read_one() -> None:
        await store.histories([_user_id(rng.randrange(user_count))])

    async def write_one() -> None:
        user = rng.randrange(user_count)
        await store.append([_event(user, rng.randrange(1 << 40), rng.randrange(ITEM_COUNT))])

    found = {
        "fill_seconds": round(seconds),
        "fill_events_per_second": round(user_count * WATCHES / seconds),
        "fill_cpu_microseconds_per_event": round(cpu_seconds / (user_count * WATCHES) * 1e6, 1),
        "read_of_64_users_milliseconds": await _milliseconds(read_64, tries),
        "read_of_one_user_milliseconds": await _milliseconds(read_one, tries),
        "write_of_one_event_milliseconds": await _milliseconds(write_one, tries),
        "memory_of_this_process_mebibytes": {"before": before, "after": memory_mebibytes()["VmRSS"]},
    }
    await _check(store, user_count)
    await store.close()
    return found


async def _milliseconds(call: Callable[[], Awaitable[None]], tries: int) -> dict[str, float]:
    taken = []
    for _ in range(tries):
        started = time.perf_counter()
        await call()
        taken.append((time.perf_counter() - started) * 1000)
    taken.sort()
    return {"p50": round(statistics.median(taken), 2), "p99": round(taken[int(0.99 * len(taken))], 2)}


async def _check(store: HistoryStore, user_count: int) -> None:
    [found] = await store.histories([_user_id(user_count - 1)])
    if list(found.item_ids[:WATCHES]) != [event.item_id for event in _events(user_count - 1)]:
        raise SystemExit("a history is not what was written")


def _events(user: int) -> list[Event]:
    rng = random.Random(user)  # noqa: S311 - a load, no secret
    return [_event(user, at, rng.randrange(ITEM_COUNT)) for at in range(WATCHES)]


def _event(user: int, at: int, item: int) -> Event:
    seconds = FIRST_TIME_SECONDS + 60 * (at % 10**7)
    return Event(
        user_id=_user_id(user),
        event_id=uuid7(seconds * 10**9, at),
        kind=EventKind.WATCH,
        item_id=item_id(item),
        timestamp_seconds=seconds,
        weight=float(1 + item % 5),
    )


def _user_id(user: int) -> str:
    return f"user{user:07d}"


def _used_memory(server: RedisServer) -> int:
    for line in server.command("INFO", "memory").decode().split("\r\n"):
        if line.startswith("used_memory:"):
            return int(line.partition(":")[2])
    raise SystemExit("the server does not say how much memory it uses")


if __name__ == "__main__":
    main()
