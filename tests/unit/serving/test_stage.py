"""A stage holds releases, computes in its worker thread, and says when that is stuck."""

import asyncio
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.releases import write_random_release
from winnow.release.golden import GoldenRequests
from winnow.serving.errors import ReleaseNotHeldError, UnavailableError
from winnow.serving.metrics import Metrics
from winnow.serving.settings import StageSettings
from winnow.serving.stage import Stage


class Number:
    """One query."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __len__(self) -> int:
        return 1


class Doubler:
    """Doubles numbers, when it is let, and remembers in which threads."""

    item_count = 10

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.go_on.set()
        self.seconds = 0.0
        self.threads: list[int] = []

    def compute(self, batch: Sequence[Number]) -> list[int]:
        self.go_on.wait()
        time.sleep(self.seconds)
        self.threads.append(threading.get_ident())
        return [2 * number.value for number in batch]

    def check_golden(self, golden: GoldenRequests) -> None:
        assert len(golden.histories)


@pytest.fixture
def settings(tmp_path: Path) -> StageSettings:
    write_random_release(tmp_path)
    return StageSettings(releases=tmp_path, stuck_seconds=0.2)


def test_nothing_is_answered_before_the_release_is_loaded(settings: StageSettings) -> None:
    async def main() -> None:
        stage = Stage("test", settings, lambda _release: Doubler(), Metrics(), files=frozenset())
        with pytest.raises(UnavailableError), stage.pinned("any"):
            pass
        await stage.keeper.load_current()
        with pytest.raises(ReleaseNotHeldError, match="'any' is not held"), stage.pinned("any"):
            pass
        with stage.pinned(stage.keeper.current.release_id) as model:
            computed = await model.batcher.submit(Number(21), deadline=asyncio.get_running_loop().time() + 5)
        assert computed.answers == 42
        await stage.close()

    asyncio.run(main())


def test_a_stuck_computation_is_not_alive(settings: StageSettings) -> None:
    doubler = Doubler()

    async def main() -> None:
        stage = Stage("test", settings, lambda _release: doubler, Metrics(), files=frozenset())
        await stage.keeper.load_current()
        assert stage.alive()
        doubler.go_on.clear()
        with stage.pinned(stage.keeper.current.release_id) as model:
            stuck = asyncio.ensure_future(
                model.batcher.submit(Number(1), deadline=asyncio.get_running_loop().time() + 30)
            )
            await asyncio.sleep(0.05)
            assert stage.alive(), "a computation may take a while"
            await asyncio.sleep(0.4)
            assert not stage.alive()
            doubler.go_on.set()
            await stuck
        assert stage.alive()
        await stage.close()

    asyncio.run(main())


def test_short_computations_stay_on_the_event_loop_and_long_ones_leave_it(
    settings: StageSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Far longer than a busy machine takes for nothing.
    monkeypatch.setattr("winnow.serving.stage.SHORT_COMPUTATION_SECONDS", 0.25)
    doubler = Doubler()

    async def main() -> None:
        stage = Stage("test", settings, lambda _release: doubler, Metrics(), files=frozenset())
        await stage.keeper.load_current()
        for seconds in (0, 0, 0.3, 0.3, 0, 0):
            doubler.seconds = seconds
            with stage.pinned(stage.keeper.current.release_id) as model:
                await model.batcher.submit(Number(1), deadline=asyncio.get_running_loop().time() + 30)
        await stage.close()

    asyncio.run(main())
    on_the_loop = [thread == threading.get_ident() for thread in doubler.threads]
    assert on_the_loop == [False, True, True, False, False, True], "judged by the computation before, if there is one"


def test_a_release_in_use_is_not_dropped(settings: StageSettings) -> None:
    fast = settings.model_copy(update={"release_poll_seconds": 0.02, "release_retire_seconds": 0.1})

    async def main() -> None:
        stage = Stage("test", fast, lambda _release: Doubler(), Metrics(), files=frozenset())
        await stage.keeper.load_current()
        first = stage.keeper.current.release_id
        watch = asyncio.ensure_future(stage.keeper.watch())
        with stage.pinned(first):
            second = write_random_release(settings.releases, seed=4)
            await until(lambda: stage.keeper.current.release_id == second)
            await asyncio.sleep(0.4)
            assert {status.release_id for status in stage.keeper.status()} == {first, second}
        await until(lambda: len(stage.keeper.all_held()) == 1)
        with pytest.raises(ReleaseNotHeldError), stage.pinned(first):
            pass
        watch.cancel()
        await stage.close()

    asyncio.run(main())


async def until(condition: "object") -> None:
    give_up = time.monotonic() + 20
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < give_up
        await asyncio.sleep(0.02)
