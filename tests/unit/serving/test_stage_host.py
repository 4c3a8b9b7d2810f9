"""A stage answers calls from the release that they are pinned to, and refuses what it cannot answer."""

import asyncio
import gc
import time
import weakref
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from candidate_service.service import CandidateService
from candidate_service.settings import CandidateSettings
from ranking_service.service import RankingService
from ranking_service.settings import RankingSettings
from tests.releases import write_random_release
from winnow.release.golden import GoldenRequests
from winnow.release.reader import Release
from winnow.rpc.errors import InvalidRequestError, ReleaseNotHeldError, UnavailableError
from winnow.serving.device import ComputedModel
from winnow.serving.metrics import Metrics
from winnow.serving.settings import StageSettings
from winnow.serving.stage_host import StageHost


class Numbers(list[int]):
    """A query of a number of numbers."""

    @property
    def work(self) -> tuple[int, ...]:
        return (len(self),)


class Doubler(ComputedModel[Numbers, list[int]]):
    """Doubles numbers and remembers the batches."""

    item_count = 10

    def __init__(self) -> None:
        self.batches: list[list[Numbers]] = []

    def compute(self, batch: Sequence[Numbers]) -> list[list[int]]:
        self.batches.append(list(batch))
        return [[2 * number for number in numbers] for numbers in batch]

    def check_golden(self, golden: GoldenRequests) -> None:
        assert len(golden.histories)


class DoublingService(StageHost[StageSettings, Numbers, list[int]]):
    name = "doubling_service"
    grpc_service_names = ("test.DoublingService",)
    release_files = frozenset({"golden.safetensors"})

    def register(self, server: grpc.aio.Server) -> None:
        raise AssertionError("not called over the network here")

    def build(self, release: Release) -> Doubler:
        self.model = Doubler()
        return self.model

    def check(self, query: Numbers, item_count: int) -> None:
        if max(query, default=0) >= item_count:
            raise ValueError(f"{max(query)} is none of {item_count} numbers")

    async def double(self, *numbers: int, release_id: str | None = None) -> list[int] | None:
        context: Any = NoDeadline()
        answer = await self.answer(release_id or self.keeper.current.release_id, partial(Numbers, numbers), context)
        return answer[0] if answer else None


class NoDeadline:
    def time_remaining(self) -> None:
        return None


@pytest.fixture
def service(tmp_path: Path) -> DoublingService:
    write_random_release(tmp_path)
    return DoublingService(StageSettings(releases=tmp_path, max_batch_queries=4), Metrics())


def test_nothing_is_answered_before_the_release_is_loaded(service: DoublingService) -> None:
    async def main() -> None:
        with pytest.raises(UnavailableError, match="the release is being loaded"):
            await service.double(1, release_id="any")
        await service.keeper.load_current()
        assert await service.double(1, 2) == [2, 4]
        await service.close()

    asyncio.run(main())


def test_a_call_for_another_release_is_refused(service: DoublingService) -> None:
    async def main() -> None:
        await service.keeper.load_current()
        with pytest.raises(ReleaseNotHeldError, match="'another' is not held"):
            await service.double(1, release_id="another")
        await service.close()

    asyncio.run(main())


def test_calls_that_arrive_together_are_computed_together(service: DoublingService) -> None:
    async def main() -> None:
        await service.keeper.load_current()
        answers = await asyncio.gather(service.double(1), service.double(2, 3), service.double(4))
        assert list(answers) == [[2], [4, 6], [8]]
        await service.close()

    asyncio.run(main())
    assert service.model.batches == [[[1], [2, 3], [4]]]


def test_an_invalid_query_is_refused_and_fails_no_other(service: DoublingService) -> None:
    async def main() -> None:
        await service.keeper.load_current()
        valid, unknown, too_many = await asyncio.gather(
            service.double(1), service.double(2, 99), service.double(1, 2, 3, 4, 5), return_exceptions=True
        )
        assert valid == [2]
        assert isinstance(unknown, InvalidRequestError)
        assert str(unknown) == "request: 99 is none of 10 numbers"
        assert isinstance(too_many, InvalidRequestError)
        assert str(too_many) == "request: 5 queries: a call carries at most 4"
        await service.close()

    asyncio.run(main())
    assert service.model.batches == [[[1]]]


def test_a_call_that_asks_nothing_is_not_computed(service: DoublingService) -> None:
    async def main() -> None:
        await service.keeper.load_current()
        assert await service.double() is None
        await service.close()

    asyncio.run(main())
    assert service.model.batches == []


@pytest.mark.parametrize(
    ("service_class", "settings_class"), [(CandidateService, CandidateSettings), (RankingService, RankingSettings)]
)
def test_a_dropped_release_is_freed_without_the_garbage_collector(
    tmp_path: Path,
    service_class: type[CandidateService] | type[RankingService],
    settings_class: type[CandidateSettings] | type[RankingSettings],
) -> None:
    models: list[weakref.ref[object]] = []

    class Recorded(service_class):  # type: ignore[valid-type,misc]
        def build(self, release: Release) -> Any:
            model = super().build(release)
            models.extend([weakref.ref(model), weakref.ref(vars(model)["_network"])])
            return model

    async def main() -> None:
        first = write_random_release(tmp_path, seed=1)
        settings: Any = settings_class(releases=tmp_path, release_poll_seconds=0.01, release_retire_seconds=0)
        service = Recorded(settings, Metrics())
        await service.keeper.load_current()
        watch = asyncio.ensure_future(service.watch())
        write_random_release(tmp_path, seed=2)
        give_up = time.monotonic() + 20
        while first in [status.release_id for status in service.keeper.status()]:
            assert time.monotonic() < give_up
            await asyncio.sleep(0.01)
        assert [model() is None for model in models] == [True, True, False, False]
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
        await service.close()

    gc.disable()
    try:
        asyncio.run(main())
    finally:
        gc.enable()
        gc.unfreeze()
