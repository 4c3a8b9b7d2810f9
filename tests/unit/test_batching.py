"""The invariants of the batcher, under a clock that only moves when nothing else can happen."""

import asyncio
import gc
import weakref
from collections.abc import Sequence
from contextvars import ContextVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulated_time import simulate
from tests.unit.doubler import FOREVER, Doubler, limits
from winnow.batching import (
    OVERDUE_FACTOR,
    SHORT_BATCH_SECONDS,
    MicroBatcher,
)
from winnow.capacity.simulated_loop import SimulatedLoop
from winnow.rpc.errors import DeadlineError, OverloadedError, UnavailableError
from winnow.serving.metrics import Metrics


@settings(deadline=None)
@given(
    arrivals=st.lists(st.tuples(st.floats(0, 10), st.integers(1, 4), st.floats(0.1, 20)), min_size=1, max_size=60),
    weight=st.integers(4, 10),
    in_flight=st.integers(1, 3),
    seconds=st.floats(0.01, 3),
)
def test_every_item_is_answered_once_in_order_within_bounds(
    arrivals: list[tuple[float, int, float]], weight: int, in_flight: int, seconds: float
) -> None:
    doubler = Doubler(seconds)
    outcomes: dict[int, object] = {}
    weights = {number: item_weight for number, (_, item_weight, _) in enumerate(arrivals)}
    finished: dict[int, float] = {}
    arrived: list[int] = []

    async def main() -> None:
        batcher = MicroBatcher(doubler.dispatch, limits(weight, in_flight), Metrics().queue("test"))
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
    computed = [item for batch in doubler.batches for item in batch]
    assert sorted(outcomes) == list(range(len(arrivals)))
    assert len(computed) == len(set(computed)), "an item is computed at most once"
    assert all(outcome == 2 * number for number, outcome in outcomes.items() if not isinstance(outcome, Exception))
    assert all(number in computed for number, outcome in outcomes.items() if not isinstance(outcome, Exception))
    assert all(sum(weights[item] for item in batch) <= weight for batch in doubler.batches)
    assert doubler.most_in_flight <= in_flight
    assert computed == [number for number in arrived if number in set(computed)], "first come, first computed"
    for number, (at, _, patience) in enumerate(arrivals):
        assert finished[number] <= at + patience + 1e-6, "nobody waits beyond the deadline"


def test_alone_when_idle_together_when_busy() -> None:
    doubler = Doubler()

    async def main() -> None:
        batcher = MicroBatcher(doubler.dispatch, limits(), Metrics().queue("test"))
        await batcher.submit(0, deadline=FOREVER)
        assert asyncio.get_running_loop().time() == 1, "no waiting when idle"
        first = asyncio.ensure_future(batcher.submit(1, deadline=FOREVER))
        await asyncio.sleep(0.1)
        await asyncio.gather(first, *(batcher.submit(number, deadline=FOREVER) for number in range(2, 6)))

    simulate(main)
    assert doubler.batches == [[0], [1], [2, 3, 4, 5]]


def test_what_arrives_in_one_turn_of_the_loop_is_dispatched_together() -> None:
    doubler, next_doubler = Doubler(), Doubler()

    async def main() -> None:
        batcher = MicroBatcher(doubler.dispatch, limits(), Metrics().queue("test"))
        next_batcher = MicroBatcher(next_doubler.dispatch, limits(), Metrics().queue("next"))

        async def through_both(number: int) -> int:
            return await next_batcher.submit(await batcher.submit(number, deadline=FOREVER), deadline=FOREVER)

        assert await asyncio.gather(*map(through_both, range(5))) == [0, 4, 8, 12, 16]
        assert asyncio.get_running_loop().time() == 2

    simulate(main)
    assert doubler.batches == [[0, 1, 2, 3, 4]]
    assert next_doubler.batches == [[0, 2, 4, 6, 8]], "what completes together goes on together"


def test_while_a_short_batch_is_in_flight_only_a_full_one_is_dispatched() -> None:
    doubler = Doubler(seconds=SHORT_BATCH_SECONDS / 2)

    async def main() -> None:
        batcher = MicroBatcher(doubler.dispatch, limits(weight=4, in_flight=2), Metrics().queue("test"))
        await batcher.submit(0, deadline=FOREVER)
        first = asyncio.ensure_future(batcher.submit(1, deadline=FOREVER))
        await asyncio.sleep(0.001)
        await asyncio.gather(first, *(batcher.submit(number, deadline=FOREVER) for number in (2, 3)))
        first = asyncio.ensure_future(batcher.submit(4, deadline=FOREVER))
        await asyncio.sleep(0.001)
        await asyncio.gather(first, *(batcher.submit(number, deadline=FOREVER) for number in (5, 6, 7, 8)))

    simulate(main)
    assert doubler.batches == [[0], [1], [2, 3], [4], [5, 6, 7, 8]]
    assert doubler.most_in_flight == 2, "the full batch did not wait"


def test_nothing_waits_for_an_overdue_batch() -> None:
    doubler = Doubler(seconds=SHORT_BATCH_SECONDS / 2)

    async def main() -> None:
        batcher = MicroBatcher(doubler.dispatch, limits(weight=4, in_flight=2), Metrics().queue("test"))
        await batcher.submit(0, deadline=FOREVER)
        doubler.seconds = 60.0
        stuck = asyncio.ensure_future(batcher.submit(1, deadline=FOREVER))
        await asyncio.sleep(1.01 * OVERDUE_FACTOR * SHORT_BATCH_SECONDS)
        doubler.seconds = SHORT_BATCH_SECONDS / 2
        await batcher.submit(2, deadline=FOREVER)
        assert not stuck.done(), "another replica answered, though a single query waited"
        await stuck

    simulate(main)


def test_what_waits_is_dispatched_the_moment_the_batch_before_it_is_overdue() -> None:
    doubler = Doubler(seconds=60)

    async def main() -> None:
        batcher = MicroBatcher(doubler.dispatch, limits(in_flight=2), Metrics().queue("test"))
        hung = asyncio.ensure_future(batcher.submit(1, deadline=FOREVER))
        await asyncio.sleep(0.001)
        doubler.seconds = 0.01
        # Nothing else is submitted, and nothing completes.
        assert await batcher.submit(2, deadline=1) == 4
        overdue_at = OVERDUE_FACTOR * SHORT_BATCH_SECONDS
        assert asyncio.get_running_loop().time() == pytest.approx(overdue_at + doubler.seconds)
        await hung

    simulate(main)
    assert doubler.batches == [[1], [2]]


def test_beside_an_overdue_batch_the_next_ones_are_as_if_it_were_not_there() -> None:
    doubler = Doubler(seconds=60)

    async def main() -> None:
        batcher = MicroBatcher(doubler.dispatch, limits(in_flight=3), Metrics().queue("test"))
        loop = asyncio.get_running_loop()
        hung = asyncio.ensure_future(batcher.submit(1, deadline=FOREVER))
        await asyncio.sleep(1)
        doubler.seconds = 0.01
        for number in range(2, 5):
            before = loop.time()
            await batcher.submit(number, deadline=FOREVER)
            assert loop.time() == pytest.approx(before + doubler.seconds), "at once"
        first = asyncio.ensure_future(batcher.submit(5, deadline=FOREVER))
        await asyncio.sleep(0.001)
        await asyncio.gather(first, *(batcher.submit(number, deadline=FOREVER) for number in (6, 7)))
        await hung

    simulate(main)
    assert doubler.batches == [[1], [2], [3], [4], [5], [6, 7]]


def test_while_a_long_batch_is_in_flight_a_quarter_of_one_is_dispatched() -> None:
    doubler = Doubler()

    async def main() -> None:
        batcher = MicroBatcher(doubler.dispatch, limits(weight=8, in_flight=2), Metrics().queue("test"))
        await batcher.submit(0, deadline=FOREVER)
        answers = []
        for number in range(1, 5):
            answers.append(asyncio.ensure_future(batcher.submit(number, deadline=FOREVER)))
            await asyncio.sleep(0.1)
        await asyncio.gather(*answers)

    simulate(main)
    assert doubler.batches == [[0], [1], [2, 3], [4]], "2 waits for 3, a quarter of 8; 4 waits for a completion"


def test_expired_work_is_not_computed() -> None:
    doubler = Doubler(seconds=5)

    async def main() -> None:
        batcher = MicroBatcher(doubler.dispatch, limits(), Metrics().queue("test"))
        first = asyncio.ensure_future(batcher.submit(1, deadline=FOREVER))
        await asyncio.sleep(0.1)
        with pytest.raises(DeadlineError):
            await batcher.submit(2, deadline=3)
        assert asyncio.get_running_loop().time() == 3
        assert await first == 2
        with pytest.raises(DeadlineError):
            await batcher.submit(3, deadline=0)

    simulate(main)
    assert doubler.batches == [[1]]


def test_cancelled_work_is_not_computed() -> None:
    doubler = Doubler()

    async def main() -> None:
        batcher = MicroBatcher(doubler.dispatch, limits(), Metrics().queue("test"))
        first = asyncio.ensure_future(batcher.submit(1, deadline=FOREVER))
        await asyncio.sleep(0.1)
        second = asyncio.ensure_future(batcher.submit(2, deadline=FOREVER))
        third = asyncio.ensure_future(batcher.submit(3, deadline=FOREVER))
        await asyncio.sleep(0.5)
        second.cancel()
        assert [await first, await third] == [2, 6]

    simulate(main)
    assert doubler.batches == [[1], [3]]


def test_a_full_queue_rejects_at_once() -> None:
    doubler = Doubler()

    async def main() -> None:
        batcher = MicroBatcher(doubler.dispatch, limits(queued=2), Metrics().queue("test"))
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
    doubler = Doubler(seconds=1)

    async def main() -> None:
        batcher = MicroBatcher(doubler.dispatch, limits(weight=1), Metrics().queue("test"))
        loop = asyncio.get_running_loop()
        accepted = [asyncio.ensure_future(batcher.submit(number, deadline=FOREVER)) for number in range(7)]
        await asyncio.sleep(3.5)  # so that the batcher has seen how long a batch takes
        before = loop.time()
        with pytest.raises(OverloadedError) as rejected:
            await batcher.submit(9, deadline=before + 3)
        assert loop.time() == before
        assert rejected.value.retry_after_seconds == pytest.approx(5, abs=0.1)
        assert await batcher.submit(10, deadline=before + 6) == 20
        await asyncio.gather(*accepted)

    simulate(main)


def test_one_slow_batch_does_not_pass_for_overload() -> None:
    doubler = Doubler(seconds=0.01)

    async def main() -> None:
        batcher = MicroBatcher(doubler.dispatch, limits(weight=1), Metrics().queue("test"))
        for number in range(4):
            await batcher.submit(number, deadline=FOREVER)
        doubler.seconds = 100
        await batcher.submit(4, deadline=FOREVER)
        doubler.seconds = 0.01
        soon = asyncio.get_running_loop().time() + 0.2
        assert len(await asyncio.gather(*(batcher.submit(number, deadline=soon) for number in range(5)))) == 5

    simulate(main)


def test_one_slow_batch_locks_nobody_out() -> None:
    doubler = Doubler(seconds=100)

    async def main() -> None:
        batcher = MicroBatcher(doubler.dispatch, limits(), Metrics().queue("test"))
        await batcher.submit(0, deadline=FOREVER)
        doubler.seconds = 1
        assert await batcher.submit(1, deadline=asyncio.get_running_loop().time() + 2) == 2

    simulate(main)


def test_a_batch_runs_in_the_context_of_its_oldest_item() -> None:
    trace = ContextVar("trace", default="none")
    traces: list[str] = []

    async def dispatch(items: Sequence[int], deadline: float) -> list[int]:
        traces.append(trace.get())
        await asyncio.sleep(1)
        return list(items)

    async def main() -> None:
        batcher = MicroBatcher(dispatch, limits(weight=2), Metrics().queue("test"))

        async def request(number: int) -> None:
            trace.set(f"trace {number}")
            await batcher.submit(number, deadline=FOREVER)

        # The second and the third batch are dispatched when the one before them completes.
        await asyncio.gather(*map(request, range(5)))

    simulate(main)
    assert traces == ["trace 0", "trace 2", "trace 4"]


def test_the_queue_metric_counts_what_waits() -> None:
    doubler = Doubler()
    metrics = Metrics()

    def queued() -> float | None:
        return metrics.registry.get_sample_value("winnow_queued", {"queue": "test"})

    async def main() -> None:
        # Two releases are served during a swap: what waits for either of them counts.
        batcher, other = (MicroBatcher(doubler.dispatch, limits(), metrics.queue("test")) for _ in range(2))
        answers = [asyncio.ensure_future(each.submit(0, deadline=FOREVER)) for each in (batcher, other)]
        await asyncio.sleep(0.1)
        assert queued() == 0, "in flight, not waiting"
        answers += [asyncio.ensure_future(batcher.submit(number, deadline=FOREVER, weight=2)) for number in (1, 2)]
        answers += [asyncio.ensure_future(other.submit(3, deadline=FOREVER))]
        await asyncio.sleep(0.1)
        assert queued() == 5
        await asyncio.gather(*answers)
        assert queued() == 0
        answers = [asyncio.ensure_future(batcher.submit(0, deadline=FOREVER)) for _ in range(3)]
        await asyncio.sleep(0.1)
        answers += [asyncio.ensure_future(batcher.submit(0, deadline=FOREVER)) for _ in range(3)]
        await asyncio.sleep(0.1)
        await batcher.close()
        assert queued() == 0
        await asyncio.gather(*answers, return_exceptions=True)

    simulate(main)


def test_a_closed_batcher_and_its_owner_are_freed_without_the_garbage_collector() -> None:
    class Owner(Doubler):
        def __init__(self) -> None:
            super().__init__()
            self.batcher = MicroBatcher(self.dispatch, limits(), Metrics().queue("test"))

    async def main() -> "weakref.ref[Owner]":
        owner = Owner()
        await owner.batcher.submit(1, deadline=FOREVER)
        await owner.batcher.close()
        return weakref.ref(owner)

    gc.disable()
    try:
        with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
            assert runner.run(main())() is None
    finally:
        gc.enable()


def test_closing_finishes_what_is_in_flight_and_refuses_the_rest() -> None:
    doubler = Doubler()

    async def main() -> None:
        batcher = MicroBatcher(doubler.dispatch, limits(), Metrics().queue("test"))
        in_flight = asyncio.ensure_future(batcher.submit(1, deadline=FOREVER))
        await asyncio.sleep(0.1)
        waiting = asyncio.ensure_future(batcher.submit(2, deadline=FOREVER))
        await asyncio.sleep(0.1)
        await batcher.close()
        assert await in_flight == 2
        with pytest.raises(UnavailableError):
            await waiting
        with pytest.raises(UnavailableError):
            await batcher.submit(3, deadline=FOREVER)

    simulate(main)


def test_a_cancelled_batch_is_unavailable_to_its_callers() -> None:
    async def dispatch(items: Sequence[int], deadline: float) -> list[int]:
        raise asyncio.CancelledError

    async def main() -> None:
        with pytest.raises(UnavailableError):
            await MicroBatcher(dispatch, limits(), Metrics().queue("test")).submit(1, deadline=FOREVER)

    simulate(main)


def test_a_weight_that_fits_no_batch_is_refused() -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="weight is 9: a batch holds 1 to 8"):
            await MicroBatcher(Doubler().dispatch, limits(), Metrics().queue("test")).submit(
                1, weight=9, deadline=FOREVER
            )

    simulate(main)
