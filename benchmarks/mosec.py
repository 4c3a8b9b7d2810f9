"""Winnow on both transports beside mosec, alternating: `python -m benchmarks.mosec [--rounds 3]`. Prints a table.

mosec is not among the dependencies: `pip install mosec` first. Its load comes over HTTP from a client that costs less
than gRPC's, on the same cores. So the CPU time of the servers says more than the rates.
"""

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import uvloop

from benchmarks.peers.mosec_chain import RELEASES_VARIABLE
from benchmarks.presets import SMALL, Preset
from benchmarks.processes import cpu_seconds
from benchmarks.releases import ensure_release, load_requests
from benchmarks.systems import HOST, START_TIMEOUT_SECONDS, RunningSystem, winnow, winnow_native
from winnow.loadtest.load import Load
from winnow.loadtest.processes import run_load
from winnow.serving.local_stack import free_port
from winnow.v1 import recommendation_pb2

CALLERS = (1, 32, 64)
WARM_UP_SECONDS = 0.5
END_OF_HEAD = b"\r\n\r\n"


class Sent(NamedTuple):
    """What one load has brought: answers a second, median latency, CPU time of all servers an answer."""

    rate_per_second: float
    p50_milliseconds: float
    cpu_milliseconds: float


def main() -> None:
    """Run all loads and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--directory", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    releases = ensure_release(SMALL, options.directory)
    requests = load_requests(releases, SMALL.answer_length)
    measured: dict[tuple[int, str], list[Sent]] = {}
    with winnow(releases) as default, winnow_native(releases) as native, _mosec(releases) as (process_id, port):
        for _ in range(options.rounds):
            for callers in CALLERS:
                for system in (default, native):
                    sent = _call_winnow(system, requests, callers, options)
                    measured.setdefault((callers, system.name), []).append(sent)
                sent = _call_mosec(port, process_id, requests, callers, options, SMALL)
                measured.setdefault((callers, "mosec"), []).append(sent)
    for (callers, name), rounds in measured.items():
        rate, p50, cpu = (median(values) for values in zip(*rounds, strict=True))
        print(f"{callers:3} callers  {name:14} {rate:7.0f}/s  p50 {p50:6.2f} ms  {cpu:5.2f} ms of CPU")


def _call_winnow(system: RunningSystem, requests: Sequence[bytes], callers: int, options: argparse.Namespace) -> Sent:
    before = system.cpu_seconds()
    load = Load(
        target=system.target,
        requests=requests,
        answer_length=SMALL.answer_length,
        seconds=options.seconds,
        timeout_seconds=30,
        warm_up_seconds=WARM_UP_SECONDS,
        concurrency=callers,
        connection_per_caller=True,
    )
    measured = run_load(load)
    cpu = system.cpu_seconds() - before
    answered = measured.answered_count * (options.seconds + WARM_UP_SECONDS) / options.seconds
    return Sent(measured.rate_per_second, measured.milliseconds("p50"), cpu / answered * 1000)


def _call_mosec(
    port: int, process_id: int, requests: Sequence[bytes], callers: int, options: argparse.Namespace, preset: Preset
) -> Sent:
    process_ids = [process_id, *_descendants(process_id)]
    before = sum(map(cpu_seconds, process_ids))
    with multiprocessing.get_context("spawn").Pool(1) as client:
        latencies = client.apply(_send_over_http, (port, requests, callers, options.seconds, preset.answer_length))
    cpu = sum(map(cpu_seconds, process_ids)) - before
    answered = len(latencies) * (options.seconds + WARM_UP_SECONDS) / options.seconds
    return Sent(len(latencies) / options.seconds, median(latencies) * 1000, cpu / answered * 1000)


def _send_over_http(
    port: int, requests: Sequence[bytes], callers: int, seconds: float, answer_length: int
) -> list[float]:
    """Return the latency in seconds of each answer; every caller has a connection."""
    latencies: list[float] = []

    async def caller(number: int) -> None:
        reader, writer = await asyncio.open_connection(HOST, port)
        position = number * 97
        while (started := time.monotonic()) < ends_at:
            body = requests[position % len(requests)]
            position += 1
            writer.write(b"POST /inference HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            head = await reader.readuntil(END_OF_HEAD)
            answer = await reader.readexactly(_content_length(head))
            if started >= starts_at:
                latencies.append(time.monotonic() - started)
            if len(recommendation_pb2.RecommendItemsResponse.FromString(answer).items) != answer_length:
                raise RuntimeError(f"not an answer: {head!r} {answer[:200]!r}")
        writer.close()

    async def run() -> None:
        await asyncio.gather(*map(caller, range(callers)))

    starts_at = time.monotonic() + WARM_UP_SECONDS
    ends_at = starts_at + seconds
    uvloop.run(run())
    return latencies


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    raise RuntimeError(f"an answer without a length: {head!r}")


def _descendants(process_id: int) -> list[int]:
    children = [
        int(child)
        for task in Path(f"/proc/{process_id}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]
    return [*children, *(grandchild for child in children for grandchild in _descendants(child))]


@contextlib.contextmanager
def _mosec(releases: Path) -> Iterator[tuple[int, int]]:
    """Run mosec until the block ends; its process id and its port."""
    port = free_port(HOST)
    command = [sys.executable, "-m", "benchmarks.peers.mosec_chain", "--address", HOST, "--port", str(port)]
    process = subprocess.Popen(command, env=os.environ | {RELEASES_VARIABLE: str(releases)})
    try:
        give_up = time.monotonic() + START_TIMEOUT_SECONDS
        while not _listens(port):
            if time.monotonic() > give_up:
                raise TimeoutError("mosec did not start")
            time.sleep(0.2)
        yield process.pid, port
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    async def connect() -> None:
        _, writer = await asyncio.open_connection(HOST, port)
        writer.close()

    try:
        asyncio.run(connect())
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
