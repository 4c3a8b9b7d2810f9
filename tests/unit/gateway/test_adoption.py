"""When requests may go to a new release."""

import asyncio

import grpc

from gateway.adoption import SLOW_LOADING_SECONDS, Adoption
from gateway.stage_calls import PROBE_CALLS, StageCaller
from tests.simulated_time import simulate
from tests.unit.gateway.stages import FakeRankingStage, caller_of, status

NOT_HELD = status(grpc.StatusCode.FAILED_PRECONDITION)
BROKEN = status(grpc.StatusCode.INTERNAL)
FOR_EVER = 10_000


def stage_of(*outcomes: grpc.aio.AioRpcError | None) -> StageCaller:
    """A stage of replicas that always answer in these ways; None holds the release."""
    return caller_of("ranking", *(FakeRankingStage(outcomes=[outcome] * FOR_EVER) for outcome in outcomes))


async def waits_for(*stages: StageCaller, seconds: float = 0.0) -> str:
    """What a release waits for after so long."""
    adoption = Adoption()
    requests = dict.fromkeys(stages, b"")
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    reason = await adoption.waits_for("new", requests)
    while loop.time() < end:
        await asyncio.sleep(0.5)
        reason = await adoption.waits_for("new", requests)
    return reason


def test_a_release_that_every_replica_holds_is_used_at_once() -> None:
    async def main() -> None:
        assert await waits_for(stage_of(None, None, None), stage_of(None)) == ""

    simulate(main)


def test_one_replica_that_loads_slowly_is_waited_for_and_named() -> None:
    async def main() -> None:
        assert await waits_for(stage_of(None, NOT_HELD, None)) == "ranking: not held by ranking-1"

    simulate(main)


def test_one_that_never_holds_it_holds_nobody_up_for_long() -> None:
    async def main() -> None:
        stage = stage_of(None, NOT_HELD, None)
        assert await waits_for(stage, seconds=SLOW_LOADING_SECONDS / 2) != ""
        assert await waits_for(stage, seconds=SLOW_LOADING_SECONDS + 1) == ""

    simulate(main)


def test_a_majority_that_lacks_it_does() -> None:
    async def main() -> None:
        reason = await waits_for(stage_of(None, NOT_HELD, NOT_HELD), seconds=10 * SLOW_LOADING_SECONDS)
        assert reason == "ranking: not held by ranking-1, ranking-2"

    simulate(main)


def test_a_replica_that_does_not_work_has_no_say() -> None:
    async def main() -> None:
        assert await waits_for(stage_of(None, BROKEN, None)) == ""
        assert await waits_for(stage_of(BROKEN, BROKEN)) == "ranking: no replica answers"
        assert await waits_for(stage_of()) == "ranking: no replica answers"

    simulate(main)


def test_each_stage_has_to_hold_it() -> None:
    async def main() -> None:
        reason = await waits_for(stage_of(None), stage_of(NOT_HELD), seconds=10 * SLOW_LOADING_SECONDS)
        assert reason == "ranking: not held by ranking-0"

    simulate(main)


def test_replicas_behind_one_address_are_met_by_several_calls() -> None:
    async def main() -> None:
        behind = caller_of("ranking", FakeRankingStage(outcomes=[*[None] * (PROBE_CALLS - 1), NOT_HELD]))
        assert await waits_for(behind) == "ranking: not held by ranking-0"

    simulate(main)


def test_the_next_release_begins_anew() -> None:
    async def main() -> None:
        adoption = Adoption()
        requests = {stage_of(None, NOT_HELD, None): b""}
        await adoption.waits_for("first", requests)
        await asyncio.sleep(2 * SLOW_LOADING_SECONDS)
        assert await adoption.waits_for("second", requests) != ""

    simulate(main)


def test_a_release_in_use_stays_so_while_a_stage_is_silent_but_not_where_it_is_lacking() -> None:
    async def main() -> None:
        silent, lacking = stage_of(BROKEN, BROKEN), stage_of(NOT_HELD)
        assert await Adoption().waits_for("arm", {stage_of(None): b"", silent: b""}, in_use=True) == ""
        assert await Adoption().waits_for("arm", {stage_of(None): b"", lacking: b""}, in_use=True) != ""

    simulate(main)


def test_each_of_several_releases_has_a_time_of_its_own() -> None:
    async def main() -> None:
        adoption = Adoption()
        requests = {stage_of(None, NOT_HELD, None): b""}
        await adoption.waits_for("first", requests)
        await asyncio.sleep(SLOW_LOADING_SECONDS / 2)
        assert await adoption.waits_for("second", requests) != ""
        await asyncio.sleep(SLOW_LOADING_SECONDS / 2)
        assert await adoption.waits_for("first", requests) == ""
        assert await adoption.waits_for("second", requests) != ""

    simulate(main)
