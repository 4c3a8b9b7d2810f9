"""One stage call: its deadline, its second try at another replica, and what is learned of the replicas."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import grpc
import pytest

from gateway.replicas import LONGEST_EJECTION_SECONDS
from gateway.settings import GatewaySettings
from gateway.stage_calls import StageCaller, StageFailure
from tests.simulated_time import simulate
from tests.unit.gateway.stages import FakeRankingStage, caller_of, status
from winnow.serving.metrics import Metrics
from winnow.v1 import ranking_pb2

REQUEST = ranking_pb2.RankCandidatesRequest().SerializeToString()
INTERNAL = status(grpc.StatusCode.INTERNAL)
HANGS = 1e6
REPLICA_FAULTS = [
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.UNIMPLEMENTED,
]


def read(data: bytes) -> int:
    """Raise ValueError for an answer with scores: none was asked for."""
    response = ranking_pb2.RankCandidatesResponse.FromString(data)
    if response.scores:
        raise ValueError("scores that nobody asked for")
    return response.compute_microseconds


def garbage(answer: ranking_pb2.RankCandidatesResponse) -> None:
    answer.scores = b"1234"


async def call(caller: StageCaller, seconds: float = 1.0) -> int:
    return await caller.call(REQUEST, read, asyncio.get_running_loop().time() + seconds)


def simulated(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test under a clock that jumps."""
    return lambda: simulate(test)


def replicas(count: int) -> list[FakeRankingStage]:
    return [FakeRankingStage() for _ in range(count)]


def asked(stages: list[FakeRankingStage]) -> list[int]:
    return [len(stage.requests) for stage in stages]


async def warmed_up(stages: list[FakeRankingStage], **settings: Any) -> StageCaller:
    """A caller that knows how long a call usually takes: 1 ms."""
    caller = caller_of("ranking", *stages, settings=GatewaySettings(**settings))
    for stage in stages:
        stage.outcomes = [0.001] * 10
    for _ in range(10 * len(stages)):
        await call(caller)
    for stage in stages:
        stage.requests.clear()
    return caller


@pytest.mark.parametrize("code", REPLICA_FAULTS)
def test_what_a_replica_fails_at_is_tried_at_another_one(code: grpc.StatusCode) -> None:
    async def main() -> None:
        stages = replicas(2)
        stages[0].outcomes = [status(code)]
        assert await call(caller_of("ranking", *stages)) == 9
        assert asked(stages) == [1, 1]

    simulate(main)


@simulated
async def test_an_answer_that_cannot_be_used_is_a_failure_too() -> None:
    stages = replicas(2)
    stages[0].outcomes = [garbage]
    assert await call(caller_of("ranking", *stages)) == 9
    assert asked(stages) == [1, 1]


@pytest.mark.parametrize("code", [grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INVALID_ARGUMENT])
def test_what_another_replica_would_not_do_better_is_not_tried_again(code: grpc.StatusCode) -> None:
    async def main() -> None:
        stages = replicas(2)
        stages[0].outcomes = [status(code)]
        with pytest.raises(StageFailure, match=f"^ranking: {code.name}$"):
            await call(caller_of("ranking", *stages))
        assert asked(stages) == [1, 0]

    simulate(main)


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.FAILED_PRECONDITION])
def test_where_one_address_is_known_it_may_be_back_or_hide_another_replica(code: grpc.StatusCode) -> None:
    async def main() -> None:
        (stage,) = stages = replicas(1)
        stage.outcomes = [status(code)]
        assert await call(caller_of("ranking", *stages)) == 9
        assert asked(stages) == [2]

    simulate(main)


@simulated
async def test_the_only_address_is_not_asked_again_after_another_failure() -> None:
    (stage,) = stages = replicas(1)
    stage.outcomes = [INTERNAL]
    with pytest.raises(StageFailure, match="INTERNAL"):
        await call(caller_of("ranking", *stages))
    assert asked(stages) == [1]


@simulated
async def test_there_are_two_tries_and_no_third() -> None:
    stages = replicas(3)
    for stage in stages:
        stage.outcomes = [status(grpc.StatusCode.UNAVAILABLE)] * 3
    with pytest.raises(StageFailure, match=r"^ranking: UNAVAILABLE$"):
        await call(caller_of("ranking", *stages))
    assert sum(asked(stages)) == 2


@simulated
async def test_nothing_is_asked_after_the_deadline() -> None:
    stages = replicas(2)
    with pytest.raises(StageFailure, match="DEADLINE_EXCEEDED"):
        await call(caller_of("ranking", *stages), seconds=0)
    assert asked(stages) == [0, 0]


@simulated
async def test_a_stage_without_replicas_is_unavailable() -> None:
    with pytest.raises(StageFailure, match="UNAVAILABLE"):
        await call(caller_of("ranking"))


@simulated
async def test_no_second_try_without_a_share() -> None:
    stages = replicas(2)
    stages[0].outcomes = [status(grpc.StatusCode.UNAVAILABLE)]
    with pytest.raises(StageFailure):
        await call(caller_of("ranking", *stages, settings=GatewaySettings(retry_share=0)))
    assert asked(stages) == [1, 0]


@simulated
async def test_a_call_that_is_overdue_is_made_elsewhere_and_the_late_one_is_cancelled() -> None:
    stages = replicas(2)
    caller = await warmed_up(stages)
    stages[0].outcomes = [HANGS]
    started = asyncio.get_running_loop().time()
    assert await call(caller) == 9
    assert asyncio.get_running_loop().time() - started < 0.05, "not the deadline"
    await asyncio.sleep(0)
    assert asked(stages) == [1, 1]
    assert stages[0].cancelled_count == 1


@simulated
async def test_the_first_answer_counts_when_the_second_is_later_still() -> None:
    stages = replicas(2)
    caller = await warmed_up(stages)
    stages[0].outcomes, stages[1].outcomes = [0.1], [HANGS]
    assert await call(caller) == 9
    await asyncio.sleep(0)
    assert stages[1].cancelled_count == 1


@simulated
async def test_a_failure_of_the_second_is_no_failure_while_the_first_may_answer() -> None:
    stages = replicas(2)
    caller = await warmed_up(stages)
    stages[0].outcomes, stages[1].outcomes = [0.1], [INTERNAL]
    assert await call(caller) == 9


@simulated
async def test_the_second_may_answer_after_the_first_has_failed() -> None:
    class FailsLate(FakeRankingStage):
        async def _respond(self, data: bytes, timeout: float) -> bytes:  # noqa: ASYNC109 - as its base
            answer = await super()._respond(data, timeout)
            if len(self.requests) == 1:
                raise INTERNAL
            return answer

    stages = [FailsLate(), FakeRankingStage()]
    caller = await warmed_up(stages)
    stages[0].outcomes, stages[1].outcomes = [0.1], [0.2]
    assert await call(caller) == 9
    assert asked(stages) == [1, 1]


@simulated
async def test_a_short_deadline_leaves_half_of_it_to_the_second_try() -> None:
    stages = replicas(2)
    caller = await warmed_up(stages)
    stages[0].outcomes, stages[1].outcomes = [HANGS], [0.004]
    assert await call(caller, seconds=0.01) == 9


@simulated
async def test_a_stage_that_is_slow_everywhere_is_not_asked_twice_once_that_is_usual() -> None:
    stages = replicas(2)
    caller = await warmed_up(stages)
    for stage in stages:
        stage.outcomes = [0.3] * 200
    for _ in range(100):
        await call(caller)
    before = sum(asked(stages))
    for _ in range(100):
        await call(caller)
    assert sum(asked(stages)) - before == 100


@simulated
async def test_a_cancelled_call_cancels_both_tries() -> None:
    stages = replicas(2)
    caller = await warmed_up(stages)
    stages[0].outcomes, stages[1].outcomes = [HANGS], [HANGS]
    calling = asyncio.create_task(call(caller))
    await asyncio.sleep(0.5)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    await asyncio.sleep(0)
    assert [stage.cancelled_count for stage in stages] == [1, 1]


@simulated
async def test_a_replica_that_fails_three_times_is_left_alone_and_probed_with_copies_until_it_answers_well() -> None:
    stages = replicas(3)
    caller = caller_of("ranking", *stages)
    stages[0].outcomes = [garbage] * 5
    for _ in range(9):
        assert await call(caller) == 9, "nobody notices"
    assert len(stages[0].requests) == 3
    for _ in range(30):
        await call(caller)
    assert len(stages[0].requests) == 3, "it is left alone"
    for _ in range(2):
        await asyncio.sleep(LONGEST_EJECTION_SECONDS)
        await call(caller)
        await asyncio.sleep(0.1)
    assert len(stages[0].requests) == 5, "one copy at a time"
    await call(caller)
    assert len(stages[0].requests) == 5, "these were bad too"
    await asyncio.sleep(LONGEST_EJECTION_SECONDS)
    await call(caller)
    await asyncio.sleep(0.1)
    stages[0].requests.clear()
    for _ in range(9):
        await call(caller)
    assert len(stages[0].requests) == 3, "it has its share again"


@simulated
async def test_a_replica_that_hangs_is_left_alone() -> None:
    stages = replicas(3)
    caller = await warmed_up(stages)
    stages[0].outcomes = [HANGS] * 100
    started = asyncio.get_running_loop().time()
    for _ in range(60):
        assert await call(caller) == 9
    assert len(stages[0].requests) == 3
    assert asyncio.get_running_loop().time() - started < 0.2


@simulated
async def test_never_more_than_half_of_the_replicas_are_left_alone() -> None:
    stages = replicas(3)
    caller = caller_of("ranking", *stages)
    for stage in stages:
        stage.outcomes = [INTERNAL] * 1000
    for _ in range(100):
        with pytest.raises(StageFailure):
            await call(caller)
    before = asked(stages)
    for _ in range(10):
        with pytest.raises(StageFailure):
            await call(caller)
    assert sum(now > then for now, then in zip(asked(stages), before, strict=True)) == 2


@simulated
async def test_calls_are_shared_out_evenly_and_the_busy_get_fewer() -> None:
    stages = replicas(3)
    caller = caller_of("ranking", *stages)
    for _ in range(30):
        await call(caller)
    assert asked(stages) == [10, 10, 10]
    stages[0].outcomes = [0.3]
    slow = asyncio.create_task(call(caller))
    await asyncio.sleep(0)
    for _ in range(10):
        await call(caller)
    assert asked(stages) == [11, 15, 15]
    await slow


@simulated
async def test_what_an_experiment_asks_ejects_no_replica() -> None:
    for blames in (True, False):
        stages = replicas(3)
        stages[0].outcomes = [INTERNAL] * 100
        usual = caller_of("ranking", *stages)
        caller = StageCaller("ranking", usual.replicas, GatewaySettings(), Metrics(), blames=blames)
        for _ in range(30):
            with suppress(StageFailure):
                await call(caller)
        assert any(replica.ejected for replica in usual.replicas) == blames
