"""One client process: sends its share of a load and records what comes back."""

import asyncio
import gc
import math
import random
import time
from collections.abc import Awaitable, Callable
from multiprocessing.synchronize import Barrier
from typing import Any

import grpc
import uvloop

from winnow.loadtest.load import ClientLoad
from winnow.loadtest.measured import Measured
from winnow.v1 import recommendation_pb2

METHOD = "/winnow.v1.RecommendationService/RecommendItems"

# A gateway on the same continent answers in a fraction of this.
CONNECT_TIMEOUT_SECONDS = 5.0
# Timers of the event loop fire on full milliseconds: arrivals are drawn on that grid, so that a call is late only
# where the client or the gateway is, never because of the clock.
TICK_SECONDS = 0.001


def run_client(share: ClientLoad, ready: Barrier, starts_at: Any, results: Any) -> None:
    """Connect, meet the others twice (all are connected; the start time is known), send, hand the result over."""
    uvloop.run(_run(share, ready, starts_at, results))


async def _run(share: ClientLoad, ready: Barrier, starts_at: Any, results: Any) -> None:
    load = share.load
    channels = [_channel(load.target, number) for number in range(load.connections)]
    try:
        for channel in channels:
            await asyncio.wait_for(channel.channel_ready(), CONNECT_TIMEOUT_SECONDS)
    except TimeoutError:
        ready.abort()
        return
    ready.wait()
    ready.wait()
    # The client's own pauses would count as the gateway's.
    gc.collect()
    gc.freeze()
    client = _Client(share, channels, starts_at.value + load.warm_up_seconds)
    await asyncio.sleep(starts_at.value - time.monotonic())
    await client.send_closed() if share.callers else await client.send_open()
    results.put(client.measured.encode())
    for channel in channels:
        await channel.close()


def _channel(target: str, number: int) -> grpc.aio.Channel:
    # Channels with equal arguments would share one connection.
    return grpc.aio.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1), ("winnow.number", number)])


class _Client:
    def __init__(self, share: ClientLoad, channels: list[grpc.aio.Channel], measured_from: float) -> None:
        self._share = share
        self._load = share.load
        self._calls: list[Callable[..., Awaitable[bytes]]] = [channel.unary_unary(METHOD) for channel in channels]
        self._sent_count = 0
        self._from = measured_from
        self._until = measured_from + share.load.seconds
        self._random = random.Random(share.seed)  # noqa: S311 - a load, no secret
        self.measured = Measured(seconds=share.load.seconds)

    async def send_closed(self) -> None:
        """Every caller sends its next call when it has the answer to the last."""

        async def caller() -> None:
            while (now := time.monotonic()) < self._until:
                await self._call(now)

        await asyncio.gather(*(caller() for _ in range(self._share.callers)))

    async def send_open(self) -> None:
        """Calls leave when they are due, and latency counts from then, even where the client is late."""
        under_way: set[asyncio.Task[None]] = set()
        due = exact_due = time.monotonic()
        while due < self._until:
            exact_due += self._random.expovariate(self._share.rate_per_second)
            due = math.ceil(exact_due / TICK_SECONDS) * TICK_SECONDS
            wait_seconds = due - time.monotonic()
            if wait_seconds > 0:
                await asyncio.sleep(wait_seconds)
            call = asyncio.create_task(self._call(due))
            under_way.add(call)
            call.add_done_callback(under_way.discard)
        if under_way:
            await asyncio.wait(under_way)

    async def _call(self, due: float) -> None:
        send = self._calls[self._sent_count % len(self._calls)]
        self._sent_count += 1
        try:
            answer = await send(self._random.choice(self._load.requests), timeout=self._load.timeout_seconds)
        except grpc.aio.AioRpcError as error:
            if self._counts(due):
                self.measured.failures[error.code().name] += 1
            return
        done = time.monotonic()
        if self._counts(due):
            self._record(recommendation_pb2.RecommendItemsResponse.FromString(answer), int((done - due) * 1e6))

    def _counts(self, due: float) -> bool:
        return self._from <= due < self._until

    def _record(self, answer: recommendation_pb2.RecommendItemsResponse, microseconds: int) -> None:
        measured = self.measured
        if self._load.answer_length and len(answer.items) != self._load.answer_length:
            measured.failures["INVALID_ANSWER"] += 1
            return
        measured.answered_count += 1
        measured.degraded_count += answer.degradation.step != 0
        measured.latency.record_value(max(microseconds, 1))
        timing = answer.timing
        if timing.total_microseconds:
            stages = timing.candidate_microseconds + timing.ranking_microseconds
            computing = timing.candidate_compute_microseconds + timing.ranking_compute_microseconds
            for part, value in (
                ("outside", microseconds - timing.total_microseconds),
                ("edge", timing.total_microseconds - stages),
                ("queue", stages - computing),
                ("candidate", timing.candidate_compute_microseconds),
                ("ranking", timing.ranking_compute_microseconds),
            ):
                measured.parts[part].record_value(max(value, 1))
