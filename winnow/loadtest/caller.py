"""One client process: sends its share of a load and records the answers."""

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

Method = Callable[..., Awaitable[bytes]]


def run_client(share: ClientLoad, ready: Barrier, starts_at: Any, results: Any) -> None:
    """Connect, wait for the others (until all are connected, then until the start is set), send, return the result."""
    uvloop.run(_run(share, ready, starts_at, results))


async def _run(share: ClientLoad, ready: Barrier, starts_at: Any, results: Any) -> None:
    channels = [_channel(share.load.target, number) for number in range(share.connections)]
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
            await asyncio.gather(*(channel.channel_ready() for channel in channels))
    except TimeoutError:
        ready.abort()
        return
    ready.wait()
    ready.wait()
    # The client's own pauses would count as the gateway's.
    gc.collect()
    gc.freeze()
    client = _Client(share, channels, starts_at.value + share.load.warm_up_seconds)
    await asyncio.sleep(starts_at.value - time.monotonic())
    cpu_before = time.process_time()
    await client.send_closed() if share.callers else await client.send_open()
    client.measured.client_cpu_seconds = time.process_time() - cpu_before
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
        self._methods: list[Method] = [channel.unary_unary(METHOD) for channel in channels]
        self._from = measured_from
        self._until = measured_from + share.load.seconds
        self._random = random.Random(share.seed)  # noqa: S311 - a load, no secret
        self.measured = Measured(seconds=share.load.seconds)

    async def send_closed(self) -> None:
        """Let every caller send its next call as soon as its last one is answered, always on the same connection."""

        async def call_again_and_again(method: Method) -> None:
            while (now := time.monotonic()) < self._until:
                await self._call(method, now)

        await asyncio.gather(
            *(call_again_and_again(self._methods[caller % len(self._methods)]) for caller in range(self._share.callers))
        )

    async def send_open(self) -> None:
        """Send each call when it is due. Latency counts from then, even if the client is late."""
        in_flight: set[asyncio.Task[None]] = set()
        sent_count = 0
        due = exact_due = time.monotonic()
        while due < self._until:
            exact_due += self._random.expovariate(self._share.rate_per_second)
            due = math.ceil(exact_due / TICK_SECONDS) * TICK_SECONDS
            wait_seconds = due - time.monotonic()
            if wait_seconds > 0:
                await asyncio.sleep(wait_seconds)
            call = asyncio.create_task(self._call(self._methods[sent_count % len(self._methods)], due))
            sent_count += 1
            in_flight.add(call)
            call.add_done_callback(in_flight.discard)
        if in_flight:
            await asyncio.wait(in_flight)

    async def _call(self, method: Method, due: float) -> None:
        try:
            answer = await method(self._random.choice(self._load.requests), timeout=self._load.timeout_seconds)
        except grpc.aio.AioRpcError as error:
            if self._counts(due):
                self.measured.failures[error.code().name] += 1
            return
        done = time.monotonic()
        if self._counts(due):
            response = recommendation_pb2.RecommendItemsResponse.FromString(answer)
            self.measured.record(response, int((done - due) * 1e6), self._load.answer_length)

    def _counts(self, due: float) -> bool:
        return self._from <= due < self._until
