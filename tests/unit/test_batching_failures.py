"""What callers get of a batch that fails, as a whole or in part."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from tests.simulated_time import simulate
from tests.unit.doubler import FOREVER, limits
from winnow.batching import (
    IncompleteBatchError,
    MicroBatcher,
)
from winnow.rpc.errors import DeadlineError
from winnow.serving.metrics import Metrics


def test_a_failing_batch_fails_its_own_items_only() -> None:
    async def dispatch(items: Sequence[int], deadline: float) -> list[int]:
        await asyncio.sleep(1)
        if 1 in items:
            raise RuntimeError("broken")
        return list(items)

    async def main() -> None:
        batcher = MicroBatcher(dispatch, limits(weight=2), Metrics().queue("test"))
        first = asyncio.ensure_future(batcher.submit(0, deadline=FOREVER))
        await asyncio.sleep(0.1)
        outcomes = await asyncio.gather(
            first, *(batcher.submit(number, deadline=FOREVER) for number in range(1, 5)), return_exceptions=True
        )
        assert [type(outcome).__name__ for outcome in outcomes] == ["int", "RuntimeError", "RuntimeError", "int", "int"]

    simulate(main)


def test_a_failed_batch_does_not_count_as_a_measure_of_how_long_batches_take() -> None:
    async def dispatch(items: Sequence[int], deadline: float) -> list[int]:
        await asyncio.sleep(1)
        if items == [1]:
            raise RuntimeError("broken")
        return list(items)

    async def main() -> None:
        batcher = MicroBatcher(dispatch, limits(weight=1), Metrics().queue("test"))
        waiting = [asyncio.ensure_future(batcher.submit(item, deadline=FOREVER)) for item in (0, 0, 1, 0, 0)]
        await asyncio.sleep(1.5)
        assert batcher.expected_seconds() == 0, "nothing is known by one batch"
        await asyncio.sleep(1)
        assert batcher.expected_seconds() == pytest.approx(4), "three ahead, and its own"
        await asyncio.sleep(1)
        assert batcher.expected_seconds() == pytest.approx(3), "as before"
        await asyncio.gather(*waiting, return_exceptions=True)
        assert batcher.expected_seconds() == 0, "nothing is ahead"

    simulate(main)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_another_number_of_results_than_of_items_fails_the_batch(count: int) -> None:
    async def dispatch(items: Sequence[int], deadline: float) -> list[int]:
        return [0] * count

    async def main() -> None:
        batcher = MicroBatcher(dispatch, limits(), Metrics().queue("test"))
        answers = await asyncio.gather(
            *(batcher.submit(number, deadline=FOREVER) for number in (1, 2)), return_exceptions=True
        )
        assert [str(answer) for answer in answers] == [f"{count} results for a batch of 2 items"] * 2

    simulate(main)


def in_steps(*steps: str, fails_with: Exception | None = None) -> Callable[..., AsyncIterator[list[str]]]:
    """Answers each item with the name of the step, a second a step, and fails after the last if asked to."""

    async def dispatch(items: Sequence[int], deadline: float) -> AsyncIterator[list[str]]:
        for step in steps:
            await asyncio.sleep(1)
            yield [f"{item} {step}" for item in items]
        await asyncio.sleep(1)
        if fails_with is not None:
            raise fails_with

    return dispatch


def test_a_caller_whose_deadline_passes_gets_the_latest_partial_result() -> None:
    metrics = Metrics()

    async def main() -> None:
        batcher = MicroBatcher(in_steps("retrieved", "ranked", "sorted"), limits(), metrics.queue("test"))
        loop = asyncio.get_running_loop()
        ends: dict[int, float] = {}

        async def submit(item: int, deadline: float) -> str:
            try:
                return await batcher.submit(item, deadline=deadline)
            finally:
                ends[item] = loop.time()

        too_early, *answers = await asyncio.gather(
            submit(0, 0.5), submit(1, 1.5), submit(2, 2.5), submit(3, FOREVER), return_exceptions=True
        )
        assert isinstance(too_early, DeadlineError), "there was no result yet"
        assert answers == ["1 retrieved", "2 ranked", "3 sorted"]
        assert ends == {0: 0.5, 1: 1.5, 2: 2.5, 3: 4.0}

    simulate(main)
    assert metrics.registry.get_sample_value("winnow_expired_total", {"queue": "test"}) == 1


def test_a_batch_that_fails_after_a_partial_result_fails() -> None:
    async def main() -> None:
        broken = in_steps("retrieved", fails_with=RuntimeError("broken"))
        batcher = MicroBatcher(broken, limits(), Metrics().queue("test"))
        early, late = await asyncio.gather(
            batcher.submit(1, deadline=1.5), batcher.submit(2, deadline=FOREVER), return_exceptions=True
        )
        assert early == "1 retrieved"
        assert isinstance(late, RuntimeError)

    simulate(main)


def test_the_results_of_an_incomplete_batch_stand_but_its_time_does_not_count() -> None:
    metrics = Metrics()

    async def main() -> None:
        incomplete = in_steps("retrieved", "not ranked", fails_with=IncompleteBatchError())
        batcher = MicroBatcher(incomplete, limits(), metrics.queue("test"))
        assert await batcher.submit(1, deadline=FOREVER) == "1 not ranked"

    simulate(main)
    assert metrics.registry.get_sample_value("winnow_batch_seconds_count", {"queue": "test"}) == 0


def test_a_dispatch_without_any_result_fails_the_batch() -> None:
    async def main() -> None:
        for fails_with in (None, IncompleteBatchError("at the first step")):
            batcher = MicroBatcher(in_steps(fails_with=fails_with), limits(), Metrics().queue("test"))
            with pytest.raises((RuntimeError, IncompleteBatchError)):
                await batcher.submit(1, deadline=FOREVER)

    simulate(main)
