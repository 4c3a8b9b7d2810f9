"""What admission makes of load, under a clock that jumps: nothing depends on the speed of this machine.

Two stages compute one batch at a time, of all that waits, as the services do. Their times are those of the benchmark's
preset `paper`, with noise.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

import pytest

from gateway.admission import check_time
from tests.simulated_time import simulate
from winnow.batching import BatchingLimits, IncompleteBatchError, MicroBatcher, NoMetrics
from winnow.rpc.errors import DeadlineError, OverloadedError

TIMEOUT_SECONDS = 0.95
CAPACITY = 200.0
"""Requests a second that the slower stage can rank."""


class Stage:
    """Answers batches of requests after a time that depends on their number."""

    def __init__(self, seconds_per_batch: float, seconds_per_request: float, rng: random.Random) -> None:
        self._seconds = seconds_per_batch, seconds_per_request
        self._rng = rng
        self._batcher = MicroBatcher(
            self._compute,
            BatchingLimits(max_batch_weight=256, max_batches_in_flight=1, max_queued_weight=2048),
            NoMetrics(),
        )

    async def ask(self, request_count: int, deadline: float) -> str:
        """How that ended: `answered`, `late` or `refused`."""
        try:
            await self._batcher.submit(request_count, deadline=deadline, weight=request_count)
        except DeadlineError:
            return "late"
        except OverloadedError:
            return "refused"
        return "answered"

    async def _compute(self, request_counts: Sequence[int], _deadline: float) -> Sequence[int]:
        seconds_per_batch, seconds_per_request = self._seconds
        noise = self._rng.lognormvariate(0, 0.2)
        await asyncio.sleep((seconds_per_batch + seconds_per_request * sum(request_counts)) * noise)
        return request_counts


class Gateway:
    """Admission and batching as in the pipeline."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self._candidate, self._ranking = Stage(0.002, 0.003, rng), Stage(0.002, 1 / CAPACITY, rng)
        self._batcher = MicroBatcher(
            self._recommend,
            BatchingLimits(max_batch_weight=64, max_batches_in_flight=8, max_queued_weight=1024),
            NoMetrics(),
        )
        self.outcomes: Counter[str] = Counter()

    async def call(self) -> None:
        deadline = asyncio.get_running_loop().time() + TIMEOUT_SECONDS
        try:
            check_time(self._batcher.expected_seconds(), deadline)
            outcome = await self._batcher.submit(deadline, deadline=deadline)
        except OverloadedError:
            outcome = "refused"
        except DeadlineError:
            outcome = "late"
        self.outcomes[outcome] += 1

    async def _recommend(self, deadlines: Sequence[float], latest: float) -> AsyncIterator[Sequence[str]]:
        loop = asyncio.get_running_loop()
        now = loop.time()
        retrieved = await self._candidate.ask(len(deadlines), now + 0.5 * (latest - now))
        yield ["not ranked"] * len(deadlines)
        in_time = sum(deadline > loop.time() for deadline in deadlines)
        ranked = await self._ranking.ask(in_time, latest) if in_time else "late"
        full = retrieved == ranked == "answered"
        yield ["full" if full else "not ranked"] * len(deadlines)
        if not full:
            raise IncompleteBatchError(overloaded="refused" in (retrieved, ranked))


def outcomes(seed: int, load: Callable[[Gateway, random.Random], Coroutine[Any, Any, None]]) -> Counter[str]:
    found: Counter[str] = Counter()

    async def main() -> None:
        gateway = Gateway(seed)
        await load(gateway, random.Random(seed))
        found.update(gateway.outcomes)

    simulate(main)
    return found


async def call_at(rate: float, seconds: float, gateway: Gateway, rng: random.Random) -> None:
    """Calls come at random, whether earlier ones have been answered or not."""
    async with asyncio.TaskGroup() as calls:
        end = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end:
            calls.create_task(gateway.call())
            await asyncio.sleep(rng.expovariate(rate))


@pytest.mark.parametrize("seed", range(4))
def test_callers_who_would_all_be_answered_in_time_are_not_refused(seed: int) -> None:
    async def load(gateway: Gateway, _rng: random.Random) -> None:
        async def call_on() -> None:
            while asyncio.get_running_loop().time() < 12:
                await gateway.call()
                await asyncio.sleep(0.001)

        async with asyncio.TaskGroup() as callers:
            for _ in range(64):
                callers.create_task(call_on())

    found = outcomes(seed, load)
    assert found["full"] >= 0.98 * found.total()


@pytest.mark.parametrize("load_share", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("seed", range(3))
def test_less_load_than_there_is_capacity_for_is_not_refused(seed: int, load_share: float) -> None:
    found = outcomes(seed, lambda gateway, rng: call_at(load_share * CAPACITY, 10, gateway, rng))
    assert found["full"] >= 0.99 * found.total()


@pytest.mark.parametrize("seed", range(4))
def test_a_burst_that_fits_into_the_deadline_is_not_refused(seed: int) -> None:
    async def load(gateway: Gateway, _rng: random.Random) -> None:
        for _ in range(5):
            for _ in range(20):  # one at a time tells little about batches
                await gateway.call()
            await asyncio.gather(*(gateway.call() for _ in range(80)))

    found = outcomes(seed, load)
    assert found["full"] >= 0.98 * found.total()


def test_three_times_the_load_leaves_goodput_where_it_was() -> None:
    seconds, seeds = 12.0, range(4)
    found = [outcomes(seed, lambda gateway, rng: call_at(3 * CAPACITY, seconds, gateway, rng)) for seed in seeds]
    goodput = [one["full"] / seconds / CAPACITY for one in found]
    assert sum(goodput) / len(goodput) >= 0.9
    assert min(goodput) >= 0.8


@pytest.mark.parametrize("seed", range(4))
def test_a_burst_at_the_start_does_not_keep_everything_late_for_ever(seed: int) -> None:
    """What is too much for the stages fills their queues before anything is known; then nothing is done in time."""
    seconds = 24.0

    async def load(gateway: Gateway, rng: random.Random) -> None:
        async with asyncio.TaskGroup() as calls:
            for _ in range(1000):
                calls.create_task(gateway.call())
            await call_at(3 * CAPACITY, seconds, gateway, rng)

    assert outcomes(seed, load)["full"] / seconds / CAPACITY >= 0.7
