"""Which replica is asked, under loads at which replicas are late although nothing is wrong with them."""

import asyncio
import random

import pytest

from gateway.replicas import Replica, Replicas
from gateway.settings import GatewaySettings
from gateway.stage_calls import StageCaller, StageFailure
from tests.simulated_time import simulate
from winnow.serving.metrics import Metrics


class BusyReplica:
    """Computes one call after the other, each for a time of its own."""

    def __init__(self, rng: random.Random, usual_seconds: float = 0.01) -> None:
        self._rng = rng
        self._free_at = 0.0
        self.usual_seconds = usual_seconds
        self.asked_count = 0

    def ask(self, _request: bytes, *, timeout: float, metadata: object = ()) -> "asyncio.Task[bytes]":
        return asyncio.ensure_future(self._respond(timeout))

    async def _respond(self, timeout: float) -> bytes:  # noqa: ASYNC109 - as a stub
        self.asked_count += 1
        loop = asyncio.get_running_loop()
        self._free_at = max(self._free_at, loop.time()) + self.usual_seconds * self._rng.lognormvariate(0, 0.7)
        await asyncio.sleep(self._free_at - loop.time())
        return b""


async def load(caller: StageCaller, caller_count: int, seconds: float) -> tuple[int, int]:
    """Call as fast as answers come; return how many came, and how many did not."""
    answered = failed = 0
    end = asyncio.get_running_loop().time() + seconds

    async def call_on() -> None:
        nonlocal answered, failed
        while asyncio.get_running_loop().time() < end:
            try:
                await caller.call(b"", len, asyncio.get_running_loop().time() + 1.0)
                answered += 1
            except StageFailure:
                failed += 1

    async with asyncio.TaskGroup() as callers:
        for _ in range(caller_count):
            callers.create_task(call_on())
    return answered, failed


def stage_of(replicas: list[BusyReplica], metrics: Metrics) -> StageCaller:
    known = [Replica(str(number), replica.ask) for number, replica in enumerate(replicas)]
    return StageCaller("ranking", Replicas("ranking", metrics, known), GatewaySettings(), metrics)


def ejections(metrics: Metrics) -> float:
    return metrics.registry.get_sample_value("winnow_replica_ejections_total", {"stage": "ranking"}) or 0.0


@pytest.mark.parametrize("caller_count", [1, 4, 16, 64])
@pytest.mark.parametrize("replica_count", [2, 3])
def test_replicas_that_are_busy_are_not_taken_for_bad_ones(replica_count: int, caller_count: int) -> None:
    async def main() -> None:
        rng = random.Random(replica_count)
        replicas = [BusyReplica(rng) for _ in range(replica_count)]
        metrics = Metrics()
        answered, failed = await load(stage_of(replicas, metrics), caller_count, 60)
        assert failed == 0
        assert ejections(metrics) <= 12, "a few a minute, each for a second"
        asked = sum(replica.asked_count for replica in replicas)
        assert asked <= 1.12 * answered, "the budget for second tries, and what was saved up"
        shares = [replica.asked_count / asked for replica in replicas]
        assert min(shares) > 0.8 / replica_count

    simulate(main)


def test_one_that_is_ten_times_as_slow_gets_next_to_nothing() -> None:
    async def main() -> None:
        rng = random.Random(1)
        replicas = [BusyReplica(rng), BusyReplica(rng), BusyReplica(rng, usual_seconds=0.1)]
        metrics = Metrics()
        answered, failed = await load(stage_of(replicas, metrics), 8, 30)
        assert failed == 0
        assert ejections(metrics) >= 1
        assert replicas[2].asked_count < 0.05 * answered
        assert answered > 0.9 * 2 / 0.0128 * 30, "as many as the other two can compute"

    simulate(main)
