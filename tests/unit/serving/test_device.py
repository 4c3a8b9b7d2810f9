"""Where a computation runs, by a clock that only computations move."""

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from winnow.serving.device import Device, Work


class Computer:
    """Computes on a device, as long as it is told to by the device's clock, and remembers where."""

    def __init__(self) -> None:
        self.now = 0.0
        self.device = Device(stuck_seconds=30, clock=lambda: self.now)

    async def ran_on_the_event_loop(self, work: Work, milliseconds: float) -> bool:
        def compute() -> int:
            self.now += milliseconds / 1000
            return threading.get_ident()

        thread, seconds = await self.device.run(compute, work)
        assert seconds == pytest.approx(milliseconds / 1000)
        return thread == threading.get_ident()


@pytest.fixture
def computer() -> Iterator[Computer]:
    made = Computer()
    yield made
    made.device.close()


def test_short_computations_stay_on_the_event_loop_and_long_ones_leave_it(computer: Computer) -> None:
    async def main() -> list[bool]:
        return [await computer.ran_on_the_event_loop((1,), milliseconds) for milliseconds in (0, 0, 4, 4, 0, 0)]

    assert asyncio.run(main()) == [False, True, True, False, False, True], "judged by the one before, if there is one"


@pytest.mark.parametrize(
    ("latest", "milliseconds", "work", "on_the_event_loop"),
    [
        # 8 x 1000 candidates after 1 x 200: eight times the queries, forty times the candidates.
        ((1, 200), 0.33, (8, 8000), False),
        ((1, 200), 0.33, (8, 1600), True),
        # Many queries with one candidate each after one with many.
        ((1, 2000), 1.0, (100, 100), False),
        ((100, 2000), 1.0, (1, 2000), True),
        ((1, 0), 1.0, (1, 2), True),
    ],
)
def test_the_quantity_that_has_grown_most_decides(
    computer: Computer, latest: Work, milliseconds: float, work: Work, on_the_event_loop: bool
) -> None:
    async def main() -> bool:
        await computer.ran_on_the_event_loop(latest, milliseconds)
        return await computer.ran_on_the_event_loop(work, milliseconds)

    assert asyncio.run(main()) == on_the_event_loop


def test_while_the_thread_computes_nothing_else_does(computer: Computer) -> None:
    release = threading.Event()
    computing: list[str] = []

    def named(name: str) -> Callable[[], None]:
        def compute() -> None:
            computing.append(f"{name} begins")
            release.wait(10)
            computing.append(f"{name} ends")

        return compute

    async def main() -> None:
        await computer.ran_on_the_event_loop((1,), milliseconds=1)
        slow = asyncio.ensure_future(computer.device.run(named("slow"), (10_000,)))
        await asyncio.sleep(0)
        short = asyncio.ensure_future(computer.device.run(named("short"), (1,)))
        await asyncio.sleep(0)
        release.set()
        await asyncio.gather(slow, short)

    asyncio.run(main())
    assert computing == ["slow begins", "slow ends", "short begins", "short ends"]


def test_a_computation_that_takes_too_long_is_stuck(computer: Computer) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def compute() -> None:
        begun.set()
        go_on.wait(10)

    async def main() -> None:
        assert computer.device.alive()
        running = asyncio.ensure_future(computer.device.run(compute, (1,)))
        await asyncio.to_thread(begun.wait, 10)
        computer.now += 29
        assert computer.device.alive(), "a computation may take a while"
        computer.now += 2
        assert not computer.device.alive()
        go_on.set()
        await running
        assert computer.device.alive()

    asyncio.run(main())


def test_what_a_computation_raises_reaches_its_caller_and_the_next_one_runs(computer: Computer) -> None:
    def compute() -> None:
        raise RuntimeError("out of memory")

    async def main() -> None:
        with pytest.raises(RuntimeError, match="out of memory"):
            await computer.device.run(compute, (1,))
        assert computer.device.alive()
        await computer.ran_on_the_event_loop((1,), 1)

    asyncio.run(main())
