"""`python -m benchmarks.batches`: what BatchRecommendItems saves over single calls, at saturation.

Both kinds of calls are sent in turn, by one client process that prepares its messages beforehand, and every answer is
parsed. Rates depend on what else the machine does; the CPU time of the three services for each recommendation hardly
does.
"""

import argparse
import asyncio
import itertools
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import uvloop

from benchmarks.presets import SMALL, SMOKE_PRESETS, Preset
from benchmarks.releases import ensure_release, load_requests
from benchmarks.systems import RunningSystem, winnow
from winnow.v1 import recommendation_pb2

SERVICE = "/winnow.v1.RecommendationService"
TIMEOUT_SECONDS = 30.0
WARM_UP_SECONDS = 0.5
SIZES = (1, 8, 64, 256)
# Requests in flight, whatever the size of the batches; more than saturate the services.
REQUESTS_IN_FLIGHT = 256


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--releases", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--smoke", action="store_true", help="a tiny catalogue for half a second: shows that it runs")
    arguments = parser.parse_args()
    preset, rounds, seconds = (
        (SMOKE_PRESETS[0], 1, 0.5) if arguments.smoke else (SMALL, arguments.rounds, arguments.seconds)
    )
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as client:
        directory = client.submit(ensure_release, preset, arguments.releases).result()
        with winnow(directory) as system:

            def run(size: int) -> tuple[float, float]:
                return _measure(system, client, preset, directory, size, seconds)

            measured = {size: [] for size in SIZES}  # type: dict[int, list[tuple[float, float]]]
            for _ in range(rounds):
                for size in SIZES:
                    measured[size].append(run(size))
    print(json.dumps(_summary(measured), indent=1))


def _measure(
    system: RunningSystem, client: ProcessPoolExecutor, preset: Preset, directory: Path, size: int, seconds: float
) -> tuple[float, float]:
    """Return recommendations a second, and microseconds of CPU time of the three services for each."""
    client.submit(send, system.target, directory, preset.answer_length, size, WARM_UP_SECONDS).result()
    before = system.cpu_seconds()
    count, elapsed = client.submit(send, system.target, directory, preset.answer_length, size, seconds).result()
    return count / elapsed, (system.cpu_seconds() - before) / count * 1e6


def send(target: str, directory: Path, answer_length: int, size: int, seconds: float) -> tuple[int, float]:
    """Keep the services busy, and return how many recommendations there were in how many seconds."""
    requests = load_requests(directory, answer_length)
    return uvloop.run(send_requests(target, requests, answer_length, size, seconds))


async def send_requests(
    target: str, requests: Sequence[bytes], answer_length: int, size: int, seconds: float
) -> tuple[int, float]:
    """Keep the services busy with these, `size` in a call; return how many were answered in how many seconds."""
    method, messages, answers = (
        ("RecommendItems", requests, _one) if size == 1 else ("BatchRecommendItems", _batches(requests, size), _many)
    )
    turn = itertools.cycle(messages)
    count = 0
    async with grpc.aio.insecure_channel(target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"{SERVICE}/{method}")
        await channel.channel_ready()
        started = time.monotonic()

        async def caller() -> None:
            nonlocal count
            while time.monotonic() - started < seconds:
                for answer in answers(await call(next(turn), timeout=TIMEOUT_SECONDS)):
                    if len(answer.items) != answer_length:
                        raise SystemExit(f"an answer has {len(answer.items)} items")
                    if answer.degradation.step != recommendation_pb2.DEGRADATION_STEP_NONE:
                        raise SystemExit(f"an answer is degraded: {answer.degradation.reason}")
                    count += 1

        await asyncio.gather(*(caller() for _ in range(max(2, REQUESTS_IN_FLIGHT // size))))
        return count, time.monotonic() - started


def _batches(requests: Sequence[bytes], size: int) -> list[bytes]:
    turn = itertools.cycle(map(recommendation_pb2.RecommendItemsRequest.FromString, requests))
    return [
        recommendation_pb2.BatchRecommendItemsRequest(requests=itertools.islice(turn, size)).SerializeToString()
        for _ in range(max(2, len(requests) // size))
    ]


def _one(data: bytes) -> list[recommendation_pb2.RecommendItemsResponse]:
    return [recommendation_pb2.RecommendItemsResponse.FromString(data)]


def _many(data: bytes) -> list[recommendation_pb2.RecommendItemsResponse]:
    return [result.response for result in recommendation_pb2.BatchRecommendItemsResponse.FromString(data).results]


def _summary(measured: dict[int, list[tuple[float, float]]]) -> dict[str, Any]:
    """Medians over the rounds. Ratios are those of a round, over single calls."""

    def ratios(size: int, figure: Callable[[tuple[float, float], tuple[float, float]], float]) -> list[float]:
        return sorted(round(figure(run, alone), 2) for run, alone in zip(measured[size], measured[1], strict=True))

    return {
        f"batches of {size}" if size > 1 else "single calls": {
            "recommendations_per_second": round(statistics.median(rate for rate, _ in runs)),
            "cpu_microseconds_per_recommendation": round(statistics.median(cpu for _, cpu in runs)),
            "times_the_rate_of_single_calls": ratios(size, lambda run, alone: run[0] / alone[0]),
            "times_less_cpu_than_single_calls": ratios(size, lambda run, alone: alone[1] / run[1]),
        }
        for size, runs in measured.items()
    }


if __name__ == "__main__":
    main()
