"""The invariants of the batcher, under a clock that only moves when nothing else can happen."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from winnow.serving.batching import OVERDUE_FACTOR, SHORT_FLIGHT_SECONDS, BatchingLimits, MicroBatcher
from winnow.serving.errors import DeadlineError, OverloadedError, UnavailableError
from winnow.serving.metrics import Metrics

FOREVER = 1e9


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer as soon as there is nothing to run."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self.now = max(self.now, self._scheduled[0].when())  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


def simulate(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        runner.run(main())


class Stage:
    """Doubles numbers, `seconds` a batch, and remembers the batches."""

    def __init__(self, seconds: float = 1.0) -> None:
        self.seconds = seconds
        self.batches: list[list[int]] = []
        self.under_way = 0
        self.most_under_way = 0

    async def fly(self, items: Sequence[int], deadline: float) -> list[int]:
        self.batches.append(list(items))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await asyncio.sleep(self.seconds)
        self.under_way -= 1
        return [2 * item for item in items]


def limits(weight: int = 8, flights: int = 1, queued: int = 1000) -> BatchingLimits:
    return BatchingLimits(max_batch_weight=weight, max_flights=flights, max_queued_weight=queued)


@settings(deadline=None)
@given(
    arrivals=st.lists(st.tuples(st.floats(0, 10), st.integers(1, 4), st.floats(0.1, 20)), min_size=1, max_size=60),
    weight=st.integers(4, 10),
    flights=st.integers(1, 3),
    seconds=st.floats(0.01, 3),
)
def test_every_item_is_answered_once_in_order_within_bounds(
    arrivals: list[tuple[float, int, float]], weight: int, flights: int, seconds: float
) -> None:
    stage = Stage(seconds)
    outcomes: dict[int, object] = {}
    weights = {number: item_weight for number, (_, item_weight, _) in enumerate(arrivals)}
    finished: dict[int, float] = {}
    arrived: list[int] = []

    async def main() -> None:
        batcher = MicroBatcher(stage.fly, limits(weight, flights), Metrics().queue("test"))
        loop = asyncio.get_running_loop()

        async def request(number: int, at: float, item_weight: int, patience: float) -> None:
            await asyncio.sleep(at)
            arrived.append(number)
            try:
                outcomes[number] = await batcher.submit(number, weight=item_weight, deadline=at + patience)
            except (DeadlineError, OverloadedError) as error:
                outcomes[number] = error
            finished[number] = loop.time()

        await asyncio.gather(*(request(number, *arrival) for number, arrival in enumerate(arrivals)))
        await batcher.close()

    simulate(main)
    flown = [item for batch in stage.batches for item in batch]
    assert sorted(outcomes) == list(range(len(arrivals)))
    assert len(flown) == len(set(flown)), "an item is computed at most once"
    assert all(outcome == 2 * number for number, outcome in outcomes.items() if not isinstance(outcome, Exception))
    assert all(number in flown for number, outcome in outcomes.items() if not isinstance(outcome, Exception))
    assert all(sum(weights[item] for item in batch) <= weight for batch in stage.batches)
    assert stage.most_under_way <= flights
    assert flown == [number for number in arrived if number in set(flown)], "first come, first computed"
    for number, (at, _, patience) in enumerate(arrivals):
        assert finished[number] <= at + patience + 1e-6, "nobody waits beyond the deadline"


def test_alone_when_idle_together_when_busy() -> None:
    stage = Stage()

    async def main() -> None:
        batcher = MicroBatcher(stage.fly, limits(), Metrics().queue("test"))
        await batcher.submit(0, deadline=FOREVER)
        assert asyncio.get_running_loop().time() == 1, "no waiting when idle"
        first = asyncio.ensure_future(batcher.submit(1, deadline=FOREVER))
        await asyncio.sleep(0.1)
        await asyncio.gather(first, *(batcher.submit(number, deadline=FOREVER) for number in range(2, 6)))

    simulate(main)
    assert stage.batches == [[0], [1], [2, 3, 4, 5]]


def test_what_arrives_in_one_turn_of_the_loop_leaves_together() -> None:
    stage, next_stage = Stage(), Stage()

    async def main() -> None:
        batcher = MicroBatcher(stage.fly, limits(), Metrics().queue("test"))
        next_batcher = MicroBatcher(next_stage.fly, limits(), Metrics().queue("next"))

        async def through_both(number: int) -> int:
            return await next_batcher.submit(await batcher.submit(number, deadline=FOREVER), deadline=FOREVER)

        assert await asyncio.gather(*map(through_both, range(5))) == [0, 4, 8, 12, 16]
        assert asyncio.get_running_loop().time() == 2

    simulate(main)
    assert stage.batches == [[0, 1, 2, 3, 4]]
    assert next_stage.batches == [[0, 2, 4, 6, 8]], "what landed together goes on together"


def test_beside_a_short_flight_only_a_full_batch_leaves() -> None:
    stage = Stage(seconds=SHORT_FLIGHT_SECONDS / 2)

    async def main() -> None:
        batcher = MicroBatcher(stage.fly, limits(weight=4, flights=2), Metrics().queue("test"))
        await batcher.submit(0, deadline=FOREVER)
        first = asyncio.ensure_future(batcher.submit(1, deadline=FOREVER))
        await asyncio.sleep(0.001)
        await asyncio.gather(first, *(batcher.submit(number, deadline=FOREVER) for number in (2, 3)))
        first = asyncio.ensure_future(batcher.submit(4, deadline=FOREVER))
        await asyncio.sleep(0.001)
        await asyncio.gather(first, *(batcher.submit(number, deadline=FOREVER) for number in (5, 6, 7, 8)))

    simulate(main)
    assert stage.batches == [[0], [1], [2, 3], [4], [5, 6, 7, 8]]
    assert stage.most_under_way == 2, "the full batch did not wait"


def test_nobody_waits_for_a_short_flight_that_is_overdue() -> None:
    stage = Stage(seconds=SHORT_FLIGHT_SECONDS / 2)

    async def main() -> None:
        batcher = MicroBatcher(stage.fly, limits(weight=4, flights=2), Metrics().queue("test"))
        await batcher.submit(0, deadline=FOREVER)
        stage.seconds = 60.0
        stuck = asyncio.ensure_future(batcher.submit(1, deadline=FOREVER))
        await asyncio.sleep(1.01 * OVERDUE_FACTOR * SHORT_FLIGHT_SECONDS)
        stage.seconds = SHORT_FLIGHT_SECONDS / 2
        await batcher.submit(2, deadline=FOREVER)
        assert not stuck.done(), "another replica answered, though a single query waited"
        await stuck

    simulate(main)


def test_beside_a_long_flight_a_quarter_of_a_batch_leaves() -> None:
    stage = Stage()

    async def main() -> None:
        batcher = MicroBatcher(stage.fly, limits(weight=8, flights=2), Metrics().queue("test"))
        await batcher.submit(0, deadline=FOREVER)
        answers = []
        for number in range(1, 5):
            answers.append(asyncio.ensure_future(batcher.submit(number, deadline=FOREVER)))
            await asyncio.sleep(0.1)
        await asyncio.gather(*answers)

    simulate(main)
    assert stage.batches == [[0], [1], [2, 3], [4]], "2 waits for 3, a quarter of 8; 4 waits for a landing"


def test_expired_work_is_not_computed() -> None:
    stage = Stage(seconds=5)

    async def main() -> None:
        batcher = MicroBatcher(stage.fly, limits(), Metrics().queue("test"))
        first = asyncio.ensure_future(batcher.submit(1, deadline=FOREVER))
        await asyncio.sleep(0.1)
        with pytest.raises(DeadlineError):
            await batcher.submit(2, deadline=3)
        assert asyncio.get_running_loop().time() == 3
        assert await first == 2
        with pytest.raises(DeadlineError):
            await batcher.submit(3, deadline=0)

    simulate(main)
    assert stage.batches == [[1]]


def test_cancelled_work_is_not_computed() -> None:
    stage = Stage()

    async def main() -> None:
        batcher = MicroBatcher(stage.fly, limits(), Metrics().queue("test"))
        first = asyncio.ensure_future(batcher.submit(1, deadline=FOREVER))
        await asyncio.sleep(0.1)
        second = asyncio.ensure_future(batcher.submit(2, deadline=FOREVER))
        third = asyncio.ensure_future(batcher.submit(3, deadline=FOREVER))
        await asyncio.sleep(0.5)
        second.cancel()
        assert [await first, await third] == [2, 6]

    simulate(main)
    assert stage.batches == [[1], [3]]


def test_a_full_queue_rejects_at_once() -> None:
    stage = Stage()

    async def main() -> None:
        batcher = MicroBatcher(stage.fly, limits(queued=2), Metrics().queue("test"))
        accepted = [asyncio.ensure_future(batcher.submit(0, deadline=FOREVER))]
        await asyncio.sleep(0.1)
        accepted += [asyncio.ensure_future(batcher.submit(number, deadline=FOREVER)) for number in (1, 2)]
        await asyncio.sleep(0.1)
        with pytest.raises(OverloadedError):
            await batcher.submit(3, deadline=FOREVER)
        assert asyncio.get_running_loop().time() == 0.2
        assert await asyncio.gather(*accepted) == [0, 2, 4]

    simulate(main)


def test_what_cannot_be_done_in_time_is_rejected_at_once() -> None:
    stage = Stage(seconds=1)

    async def main() -> None:
        batcher = MicroBatcher(stage.fly, limits(weight=1), Metrics().queue("test"))
        loop = asyncio.get_running_loop()
        for number in range(8):  # so that the batcher has seen how long a flight takes
            await batcher.submit(number, deadline=FOREVER)
        accepted = [asyncio.ensure_future(batcher.submit(number, deadline=FOREVER)) for number in range(4)]
        await asyncio.sleep(0.5)
        before = loop.time()
        with pytest.raises(OverloadedError) as rejected:
            await batcher.submit(9, deadline=before + 3)
        assert loop.time() == before
        assert rejected.value.retry_after_seconds == pytest.approx(5, abs=0.1)
        assert await batcher.submit(10, deadline=before + 6) == 20
        await asyncio.gather(*accepted)

    simulate(main)


def test_one_slow_flight_does_not_pass_for_overload() -> None:
    stage = Stage(seconds=0.01)

    async def main() -> None:
        batcher = MicroBatcher(stage.fly, limits(weight=1), Metrics().queue("test"))
        for number in range(4):
            await batcher.submit(number, deadline=FOREVER)
        stage.seconds = 100
        await batcher.submit(4, deadline=FOREVER)
        stage.seconds = 0.01
        soon = asyncio.get_running_loop().time() + 0.2
        assert len(await asyncio.gather(*(batcher.submit(number, deadline=soon) for number in range(5)))) == 5

    simulate(main)


def test_one_slow_flight_shuts_nobody_out() -> None:
    stage = Stage(seconds=100)

    async def main() -> None:
        batcher = MicroBatcher(stage.fly, limits(), Metrics().queue("test"))
        await batcher.submit(0, deadline=FOREVER)
        stage.seconds = 1
        assert await batcher.submit(1, deadline=asyncio.get_running_loop().time() + 2) == 2

    simulate(main)


def test_a_failing_batch_fails_its_own_items_only() -> None:
    async def fly(items: Sequence[int], deadline: float) -> list[int]:
        await asyncio.sleep(1)
        if 1 in items:
            raise RuntimeError("broken")
        return list(items)

    async def main() -> None:
        batcher = MicroBatcher(fly, limits(weight=2), Metrics().queue("test"))
        first = asyncio.ensure_future(batcher.submit(0, deadline=FOREVER))
        await asyncio.sleep(0.1)
        outcomes = await asyncio.gather(
            first, *(batcher.submit(number, deadline=FOREVER) for number in range(1, 5)), return_exceptions=True
        )
        assert [type(outcome).__name__ for outcome in outcomes] == ["int", "RuntimeError", "RuntimeError", "int", "int"]

    simulate(main)


def test_closing_finishes_what_flies_and_refuses_the_rest() -> None:
    stage = Stage()

    async def main() -> None:
        batcher = MicroBatcher(stage.fly, limits(), Metrics().queue("test"))
        flying = asyncio.ensure_future(batcher.submit(1, deadline=FOREVER))
        await asyncio.sleep(0.1)
        waiting = asyncio.ensure_future(batcher.submit(2, deadline=FOREVER))
        await asyncio.sleep(0.1)
        await batcher.close()
        assert await flying == 2
        with pytest.raises(UnavailableError):
            await waiting
        with pytest.raises(UnavailableError):
            await batcher.submit(3, deadline=FOREVER)

    simulate(main)


def test_a_cancelled_flight_is_unavailable_to_its_callers() -> None:
    async def fly(items: Sequence[int], deadline: float) -> list[int]:
        raise asyncio.CancelledError

    async def main() -> None:
        with pytest.raises(UnavailableError):
            await MicroBatcher(fly, limits(), Metrics().queue("test")).submit(1, deadline=FOREVER)

    simulate(main)


def test_a_weight_that_fits_no_batch_is_refused() -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="weight is 9: a batch holds 1 to 8"):
            await MicroBatcher(Stage().fly, limits(), Metrics().queue("test")).submit(1, weight=9, deadline=FOREVER)

    simulate(main)
