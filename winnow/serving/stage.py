"""What the two stages do alike: hold a release, batch queries for its network, compute off the event loop."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

import structlog

from winnow.release.golden import GoldenRequests
from winnow.release.reader import Release, current_release_id, open_release
from winnow.serving.batching import BatchingLimits, MicroBatcher
from winnow.serving.errors import ReleaseNotHeldError, UnavailableError
from winnow.serving.settings import StageSettings

_log = structlog.get_logger(__name__)

Queries = TypeVar("Queries")
Answers = TypeVar("Answers")
Queries_contra = TypeVar("Queries_contra", contravariant=True)
Answers_co = TypeVar("Answers_co", covariant=True)
Returned = TypeVar("Returned")


class StageModel(Protocol[Queries_contra, Answers_co]):
    """A network of a release, ready to compute."""

    @property
    def item_count(self) -> int:
        """Rows lie in [0, item_count)."""

    def compute(self, batch: Sequence[Queries_contra]) -> Sequence[Answers_co]:
        """Answer every entry of the batch in one go, in order. Runs in the stage's worker thread."""

    def check_golden(self, golden: GoldenRequests) -> None:
        """Raise GoldenMismatchError unless the golden requests are answered as when the release was made."""


class Computed(NamedTuple, Generic[Answers]):
    """The answers to one call and how long the batch that held it was computed."""

    answers: Answers
    compute_microseconds: int


@dataclass(frozen=True, kw_only=True)
class HeldRelease(Generic[Queries, Answers]):
    """A release that is loaded, checked and offered."""

    release_id: str
    item_count: int
    batcher: MicroBatcher[Queries, Computed[Answers]]


class Stage(Generic[Queries, Answers]):
    """Loads the current release and computes for it, one batch at a time, in one worker thread.

    The thread keeps the event loop free for the calls that wait, and the device for one batch at a time.
    """

    def __init__(self, settings: StageSettings, build: Callable[[Release], StageModel[Queries, Answers]]) -> None:
        self._settings = settings
        self._build = build
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="device")
        self._held: HeldRelease[Queries, Answers] | None = None

    async def load(self) -> None:
        """Load and check the current release, then offer it. Raises ReleaseError or GoldenMismatchError."""
        self._held = await self._run(self._load)
        _log.info("release loaded", release_id=self._held.release_id, item_count=self._held.item_count)

    def held(self, release_id: str) -> HeldRelease[Queries, Answers]:
        """Return the release that a call is pinned to. Raises UnavailableError or ReleaseNotHeldError."""
        if self._held is None:
            raise UnavailableError("the release is being loaded")
        if release_id != self._held.release_id:
            raise ReleaseNotHeldError(f"release {release_id[:64]!r} is not held, {self._held.release_id!r} is")
        return self._held

    async def close(self) -> None:
        """Wait for the batch under way and end the worker thread."""
        if self._held is not None:
            await self._held.batcher.close()
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _load(self) -> HeldRelease[Queries, Answers]:
        release = open_release(self._settings.releases / current_release_id(self._settings.releases))
        model = self._build(release)
        # Answering the golden requests is the warm-up too: it runs the path of every later request.
        model.check_golden(release.golden_requests())
        return HeldRelease(
            release_id=release.release_id, item_count=model.item_count, batcher=self._batcher(model.compute)
        )

    def _batcher(
        self, compute: Callable[[Sequence[Queries]], Sequence[Answers]]
    ) -> MicroBatcher[Queries, Computed[Answers]]:
        def timed(batch: Sequence[Queries]) -> list[Computed[Answers]]:
            started = time.perf_counter_ns()
            answers = compute(batch)
            microseconds = (time.perf_counter_ns() - started) // 1000
            return [Computed(answer, microseconds) for answer in answers]

        async def fly(batch: Sequence[Queries], _deadline: float) -> list[Computed[Answers]]:
            return await self._run(timed, batch)

        limits = BatchingLimits(
            max_batch_weight=self._settings.max_batch_queries,
            max_flights=1,
            max_queued_weight=self._settings.max_queued_queries,
        )
        return MicroBatcher(fly, limits)

    async def _run(self, function: Callable[..., Returned], *arguments: object) -> Returned:
        return await asyncio.get_running_loop().run_in_executor(self._worker, function, *arguments)
