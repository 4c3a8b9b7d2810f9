"""What the two stages do alike: hold releases, batch queries for their network, compute off the event loop."""

import asyncio
import time
from collections.abc import Callable, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

from winnow.release.golden import GoldenRequests
from winnow.release.manifest import GOLDEN_FILE
from winnow.release.reader import Release
from winnow.serving.batching import BatchingLimits, MicroBatcher
from winnow.serving.metrics import Metrics
from winnow.serving.releases import HeldRelease, ReleaseKeeper, ReleaseKeeperSettings
from winnow.serving.settings import StageSettings

Queries = TypeVar("Queries", bound=Sized)
Answers = TypeVar("Answers")
Queries_contra = TypeVar("Queries_contra", bound=Sized, contravariant=True)
Answers_co = TypeVar("Answers_co", covariant=True)

# What is expected to take no longer is computed on the event loop: to wake a thread and to be woken by it costs a good
# part of a millisecond on an idle machine, and as much as the small preset's networks. Calls that arrive meanwhile wait
# this long at most.
SHORT_COMPUTATION_SECONDS = 0.003


class StageModel(Protocol[Queries_contra, Answers_co]):
    """A network of a release, ready to compute."""

    @property
    def item_count(self) -> int:
        """Rows lie in [0, item_count)."""

    def compute(self, batch: Sequence[Queries_contra]) -> Sequence[Answers_co]:
        """Answer every entry of the batch in one go, in order. Runs in one thread at a time."""

    def check_golden(self, golden: GoldenRequests) -> None:
        """Raise GoldenMismatchError unless the golden requests are answered as when the release was made."""


class Computed(NamedTuple, Generic[Answers]):
    """The answers to one call and how long the batch that held it was computed."""

    answers: Answers
    compute_microseconds: int


@dataclass(frozen=True, kw_only=True)
class LoadedModel(Generic[Queries, Answers]):
    """A release's network behind its batcher."""

    item_count: int
    batcher: MicroBatcher[Queries, Computed[Answers]]


class Stage(Generic[Queries, Answers]):
    """Computes for the releases it holds, one batch at a time.

    What takes long is computed in a worker thread, which keeps the event loop free for the calls that wait; what is
    short is not worth the thread.
    """

    def __init__(
        self,
        name: str,
        settings: StageSettings,
        build: Callable[[Release], StageModel[Queries, Answers]],
        metrics: Metrics,
        *,
        files: frozenset[str],
    ) -> None:
        """`build` reads no other `files` of a release than these."""
        self._settings = settings
        self._build = build
        self._queue_metrics = metrics.queue(name)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="device")
        self._computing_since: float | None = None
        self._seconds_a_query: float | None = None
        self.keeper: ReleaseKeeper[LoadedModel[Queries, Answers]] = ReleaseKeeper(
            ReleaseKeeperSettings(
                releases=settings.releases,
                files=files | {GOLDEN_FILE},
                poll_seconds=settings.release_poll_seconds,
                retire_seconds=settings.release_retire_seconds,
            ),
            self._load,
            metrics,
        )

    def pinned(self, release_id: str) -> HeldRelease[LoadedModel[Queries, Answers]]:
        """The release that a call is pinned to, a context that keeps it while the call lasts.

        Raises UnavailableError while none is loaded, ReleaseNotHeldError for another one.
        """
        return self.keeper.held(release_id)

    def alive(self) -> bool:
        """Whether the worker thread gets on with its work."""
        since = self._computing_since
        return since is None or time.monotonic() - since < self._settings.stuck_seconds

    async def close(self) -> None:
        """Wait for the batch under way and end the threads."""
        for held in self.keeper.all_held():
            await held.loaded.batcher.close()
        await self.keeper.close()
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _load(self, release: Release) -> LoadedModel[Queries, Answers]:
        model = self._build(release)
        # Answering the golden requests is the warm-up too: it runs the path of every later request.
        model.check_golden(release.golden_requests())
        return LoadedModel(item_count=model.item_count, batcher=self._batcher(model))

    def _is_short(self, batch: Sequence[Queries]) -> bool:
        """Judged by the latest computation; while one is in the worker thread, of another release, nothing is."""
        if self._seconds_a_query is None or self._computing_since is not None:
            return False
        return self._seconds_a_query * _query_count(batch) <= SHORT_COMPUTATION_SECONDS

    def _batcher(self, model: StageModel[Queries, Answers]) -> MicroBatcher[Queries, Computed[Answers]]:
        def compute(batch: Sequence[Queries]) -> list[Computed[Answers]]:
            started = time.monotonic()
            self._computing_since = started
            try:
                answers = model.compute(batch)
            finally:
                self._computing_since = None
            seconds = time.monotonic() - started
            self._seconds_a_query = seconds / _query_count(batch)
            microseconds = int(seconds * 1e6)
            return [Computed(answer, microseconds) for answer in answers]

        async def fly(batch: Sequence[Queries], _deadline: float) -> list[Computed[Answers]]:
            if self._is_short(batch):
                return compute(batch)
            return await asyncio.get_running_loop().run_in_executor(self._worker, compute, batch)

        limits = BatchingLimits(
            max_batch_weight=self._settings.max_batch_queries,
            max_flights=1,
            max_queued_weight=self._settings.max_queued_queries,
        )
        return MicroBatcher(fly, limits, self._queue_metrics)


def _query_count(batch: Sequence[Sized]) -> int:
    return sum(map(len, batch))
