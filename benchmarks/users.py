"""`python -m benchmarks.users`: what a recommendation by user id costs over one by history, at saturation.

One stack with an SQLite file and one with a Valkey server; each is asked both ways in turn, for the same users. Every
watch has a weight and a time, stored and sent. Rates depend on what else the machine does; the CPU time of a process
for each answer does less. Rounds are short and many, since both ways have to meet the same machine.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine
from benchmarks.presets import SMALL, SMOKE_PRESETS, Preset, item_id
from benchmarks.releases import ensure_release, load_histories
from benchmarks.systems import START_TIMEOUT_SECONDS, cpu_seconds
from tests.redis_server import redis_server
from winnow.loadtest.load import Load
from winnow.loadtest.processes import run_load
from winnow.serving.local_stack import LocalStack, StackSettings
from winnow.users.addresses import store_at
from winnow.users.events import Event, EventKind
from winnow.v1 import recommendation_pb2

TIMEOUT_SECONDS = 30.0
WARM_UP_SECONDS = 0.5
FIRST_TIME_SECONDS = 1_700_000_000
MAX_EVENTS = 1000
# Enough to fill batches although some of them wait for a history: with half-filled ones, an answer would take more CPU
# time for that reason alone.
CALLERS = 192
USERS_PER_APPEND = 20
BY_HISTORY, BY_USER_ID = "by history", "by user id"


@dataclass(frozen=True, kw_only=True)
class Round:
    """One load on one stack."""

    rate_per_second: float
    gateway_microseconds: float
    """CPU time of the gateway's process for each answer."""
    all_microseconds: float
    """That of all three services and of the Valkey server, if there is one."""


@dataclass(kw_only=True)
class Served:
    """A stack with a store, and what was measured of it."""

    target: str
    processes: dict[str, int]
    rounds: dict[str, list[Round]] = field(default_factory=lambda: {BY_HISTORY: [], BY_USER_ID: []})


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--releases", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--smoke", action="store_true", help="a tiny catalogue for half a second: shows that it runs")
    arguments = parser.parse_args()
    preset, rounds, seconds = (
        (SMOKE_PRESETS[0], 1, 0.5) if arguments.smoke else (SMALL, arguments.rounds, arguments.seconds)
    )
    directory = ensure_release(preset, arguments.releases)
    watched = _watches(directory)
    requests = {BY_HISTORY: _by_history(watched, preset), BY_USER_ID: _by_user_id(watched, preset)}
    results: dict[str, Any] = {"machine": describe_machine()}
    with tempfile.TemporaryDirectory() as temporary, redis_server(Path(temporary)) as valkey:
        for store, address in (("SQLite", str(Path(temporary) / "users.db")), ("Valkey", valkey.address)):
            asyncio.run(_fill(address, watched))
            with _stack(directory, address) as served:
                if store == "Valkey":
                    assert valkey.process is not None  # noqa: S101 - it runs
                    served.processes["store"] = valkey.process.pid
                for _ in range(rounds):
                    for kind in served.rounds:
                        served.rounds[kind].append(_measure(served, requests[kind], preset, seconds))
            results[store] = _summary(served)
    print(json.dumps(results, indent=1))


@contextmanager
def _stack(releases: Path, address: str) -> Iterator[Served]:
    settings = StackSettings(
        releases=releases,
        gateway_port=0,
        candidate_port=0,
        ranking_port=0,
        start_timeout_seconds=START_TIMEOUT_SECONDS,
        flags={
            "all": ["--log-level=warning", "--drain-seconds=0"],
            # On a busy machine a history may be late; here it is waited for.
            "gateway": [f"--users-store={address}", f"--users-timeout-seconds={TIMEOUT_SECONDS}"],
        },
    )
    with LocalStack(settings) as stack:
        processes = {service: process.pid for service, process in stack.processes.items()}
        yield Served(target=stack.gateway_target, processes=processes)


def _measure(served: Served, requests: list[bytes], preset: Preset, seconds: float) -> Round:
    before = {role: cpu_seconds(process) for role, process in served.processes.items()}
    measured = run_load(
        Load(
            target=served.target,
            requests=requests,
            answer_length=preset.answer_length,
            seconds=seconds,
            warm_up_seconds=WARM_UP_SECONDS,
            timeout_seconds=TIMEOUT_SECONDS,
            concurrency=CALLERS,
        )
    )
    if measured.failed_count or measured.degraded_count:
        raise SystemExit(f"{measured.failures}, {measured.degraded_count} degraded answers")
    taken = {role: cpu_seconds(process) - before[role] for role, process in served.processes.items()}
    answers = measured.rate_per_second * (seconds + WARM_UP_SECONDS)
    return Round(
        rate_per_second=measured.rate_per_second,
        gateway_microseconds=taken["gateway"] / answers * 1e6,
        all_microseconds=sum(taken.values()) / answers * 1e6,
    )


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


def _summary(served: Served) -> dict[str, Any]:
    """Medians over the rounds. Ratios are those of a round, by user id over by history, in ascending order."""

    def ratios(figure: str) -> list[float]:
        pairs = zip(served.rounds[BY_USER_ID], served.rounds[BY_HISTORY], strict=True)
        return sorted(round(getattr(by_id, figure) / getattr(by_history, figure), 3) for by_id, by_history in pairs)

    figures = list(Round.__dataclass_fields__)
    return {
        **{
            kind: {figure: round(statistics.median(getattr(one, figure) for one in runs)) for figure in figures}
            for kind, runs in served.rounds.items()
        },
        "ratios": {figure: ratios(figure) for figure in figures},
    }


if __name__ == "__main__":
    main()
