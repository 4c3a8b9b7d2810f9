"""`python -m benchmarks.users`: what a recommendation by user id costs over one by history, at saturation.

One stack with an SQLite file and one with a Valkey server; each is asked both ways in turn, for the same users. Every
watch has a weight and a time, stored and sent. Rounds are short and many: both ways have to meet the same machine.

With single calls, the CPU time of an answer depends on how many requests share a batch, and so on what else the machine
does. Calls of BatchRecommendItems fill every batch, whatever the machine does. `--instructions` counts those of the
gateway for a single call, under valgrind, which makes the gateway the slowest part by far.
"""

import argparse
import asyncio
import itertools
import json
import multiprocessing
import statistics
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from benchmarks import instructions
from benchmarks.batches import send_requests
from benchmarks.machine import describe_machine
from benchmarks.presets import SMALL, SMOKE_PRESETS, Preset, item_id
from benchmarks.processes import cpu_seconds
from benchmarks.releases import ensure_release, load_histories
from benchmarks.systems import RunningSystem, quiet_stack
from tests.redis_server import redis_server
from winnow.users.addresses import store_at
from winnow.users.events import Event, EventKind
from winnow.v1 import recommendation_pb2

TIMEOUT_SECONDS = 30.0
WARM_UP_SECONDS = 0.5
FIRST_TIME_SECONDS = 1_700_000_000
MAX_EVENTS = 1000
USERS_PER_APPEND = 20
SIZES = (1, 64)
COUNTED_REQUESTS, COUNTED_CALLERS = 640, 32
BY_HISTORY, BY_USER_ID = "by history", "by user id"


@dataclass(frozen=True, kw_only=True)
class Round:
    """One load on one stack."""

    rate_per_second: float
    gateway_microseconds: float
    """CPU time of the gateway's process for each answer."""
    all_microseconds: float
    """That of all three services and of the Valkey server, if there is one."""


Rounds = dict[tuple[int, str], list[Round]]
"""By the size of the batches and how users are named."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--releases", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--smoke", action="store_true", help="a tiny catalogue for half a second: shows that it runs")
    parser.add_argument("--instructions", action="store_true", help="count instructions instead; needs valgrind")
    arguments = parser.parse_args()
    preset, rounds, seconds = (
        (SMOKE_PRESETS[0], 1, 0.5) if arguments.smoke else (SMALL, arguments.rounds, arguments.seconds)
    )
    directory = ensure_release(preset, arguments.releases)
    watched = _watches(directory)
    requests = {BY_HISTORY: _by_history(watched, preset), BY_USER_ID: _by_user_id(watched, preset)}
    results: dict[str, Any] = {"machine": describe_machine()}
    if arguments.instructions:
        print(json.dumps(_instructions(directory, watched, requests), indent=1))
        return
    spawn = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(max_workers=1, mp_context=spawn) as client,
        tempfile.TemporaryDirectory() as temporary,
        redis_server(Path(temporary)) as valkey,
    ):
        for store, address in (("SQLite", str(Path(temporary) / "users.db")), ("Valkey", valkey.address)):
            asyncio.run(_fill(address, watched))
            measured: Rounds = {}
            with quiet_stack(directory, gateway=_flags(address)) as stack:
                system = RunningSystem.of_stack(store, stack)
                if store == "Valkey" and valkey.process is not None:
                    system.processes["store"] = valkey.process.pid
                for _ in range(rounds):
                    for size, (kind, messages) in itertools.product(SIZES, requests.items()):
                        once = _measure(system, client, messages, preset, size, seconds)
                        measured.setdefault((size, kind), []).append(once)
            results[store] = {f"{size} in a call": _summary(measured, size) for size in SIZES}
    print(json.dumps(results, indent=1))


def _instructions(
    directory: Path, watched: list[list[Event]], requests: dict[str, list[bytes]]
) -> dict[str, dict[str, float]]:
    """Return thousands of instructions of the gateway a request, and those by user id over those by history."""
    found = {}
    with tempfile.TemporaryDirectory() as temporary, redis_server(Path(temporary)) as valkey:
        for store, address in (("SQLite", str(Path(temporary) / "users.db")), ("Valkey", valkey.address)):
            asyncio.run(_fill(address, watched))
            flags = [*instructions.FLAGS, *_flags(address)]
            with quiet_stack(directory) as stack:
                figures = {}
                for kind, messages in requests.items():
                    by_library, count = instructions.count_instructions(
                        stack, directory, messages, flags, COUNTED_REQUESTS, COUNTED_CALLERS
                    )
                    figures[kind] = round(sum(by_library.values()) / count / 1000, 1)
                figures["ratio"] = round(figures[BY_USER_ID] / figures[BY_HISTORY], 3)
                found[store] = figures
    return found


def _flags(address: str) -> list[str]:
    # On a busy machine a history may be late; here it is waited for.
    return [f"--users-store={address}", f"--users-timeout-seconds={TIMEOUT_SECONDS}"]


def _measure(
    system: RunningSystem, client: ProcessPoolExecutor, requests: list[bytes], preset: Preset, size: int, seconds: float
) -> Round:
    client.submit(send, system.target, requests, preset.answer_length, size, WARM_UP_SECONDS).result()
    before = {role: cpu_seconds(process) for role, process in system.processes.items()}
    count, elapsed = client.submit(send, system.target, requests, preset.answer_length, size, seconds).result()
    taken = {role: cpu_seconds(process) - before[role] for role, process in system.processes.items()}
    return Round(
        rate_per_second=count / elapsed,
        gateway_microseconds=taken["gateway"] / count * 1e6,
        all_microseconds=sum(taken.values()) / count * 1e6,
    )


def send(target: str, requests: Sequence[bytes], answer_length: int, size: int, seconds: float) -> tuple[int, float]:
    """Keep the services busy, and return how many recommendations there were in how many seconds."""
    return uvloop.run(send_requests(target, requests, answer_length, size, seconds))


def _watches(directory: Path) -> list[list[Event]]:
    """One list a user, oldest first."""
    histories = load_histories(directory)
    return [
        [
            Event(
                user_id=f"user{user:07d}",
                event_id=f"{user:016x}{at:016x}",
                kind=EventKind.WATCH,
                item_id=item_id(row),
                timestamp_seconds=FIRST_TIME_SECONDS + 60 * at,
                weight=float(1 + row % 5),
            )
            for at, row in enumerate(histories[user].tolist())
        ]
        for user in range(len(histories))
    ]


async def _fill(address: str, watched: list[list[Event]]) -> None:
    store = store_at(address, MAX_EVENTS)
    await store.open()
    for start in range(0, len(watched), USERS_PER_APPEND):
        await store.append([event for events in watched[start : start + USERS_PER_APPEND] for event in events])
    await store.close()


def _by_history(watched: list[list[Event]], preset: Preset) -> list[bytes]:
    return [
        recommendation_pb2.RecommendItemsRequest(
            history=[
                recommendation_pb2.Watch(
                    item_id=event.item_id, weight=event.weight, timestamp_seconds=event.timestamp_seconds
                )
                for event in events
            ],
            item_count=preset.answer_length,
        ).SerializeToString()
        for events in watched
    ]


def _by_user_id(watched: list[list[Event]], preset: Preset) -> list[bytes]:
    return [
        recommendation_pb2.RecommendItemsRequest(
            user_id=events[0].user_id, item_count=preset.answer_length
        ).SerializeToString()
        for events in watched
    ]


def _summary(measured: Rounds, size: int) -> dict[str, Any]:
    """Medians over the rounds. Ratios are those of a round, by user id over by history, in ascending order."""
    by_history, by_id = measured[size, BY_HISTORY], measured[size, BY_USER_ID]
    figures = list(Round.__dataclass_fields__)

    def medians(runs: list[Round]) -> dict[str, int]:
        return {figure: round(statistics.median(getattr(one, figure) for one in runs)) for figure in figures}

    def ratios(figure: str) -> list[float]:
        pairs = zip(by_id, by_history, strict=True)
        return sorted(round(getattr(ours, figure) / getattr(theirs, figure), 2) for ours, theirs in pairs)

    return {
        BY_HISTORY: medians(by_history),
        BY_USER_ID: medians(by_id),
        "median_ratio": {figure: statistics.median(ratios(figure)) for figure in figures},
        "ratios": {figure: ratios(figure) for figure in figures},
    }


if __name__ == "__main__":
    main()
