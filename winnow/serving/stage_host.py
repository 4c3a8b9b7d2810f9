"""What the two stages have in common: the releases they hold, the batches they compute, the life of the service."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import grpc

from winnow.batching import BatchingLimits, MicroBatcher
from winnow.release.golden import GoldenRequests
from winnow.release.manifest import GOLDEN_FILE, Manifest
from winnow.release.reader import NOTHING_LEFT_OUT, Release
from winnow.rpc.errors import WHOLE_REQUEST, InvalidRequestError
from winnow.rpc.violations import Violation
from winnow.serving.boundary import Gatekeeper
from winnow.serving.device import Device, StageQuery
from winnow.serving.metrics import Metrics
from winnow.serving.releases import ReleaseKeeper
from winnow.serving.server import remaining_seconds
from winnow.serving.settings import StageSettings

Settings = TypeVar("Settings", bound=StageSettings)
Query = TypeVar("Query", bound=StageQuery)
Answer = TypeVar("Answer")
Query_contra = TypeVar("Query_contra", bound=StageQuery, contravariant=True)
Answer_co = TypeVar("Answer_co", covariant=True)


class StageModel(Protocol[Query_contra, Answer_co]):
    """A network of a release, ready to answer."""

    @property
    def item_count(self) -> int:
        """Rows lie in [0, item_count)."""

    @property
    def batches_in_flight(self) -> int:
        """How many batches are answered at once: one, unless the answers come from another machine."""

    async def answer(
        self, batch: Sequence[Query_contra], device: Device, deadline: float, /
    ) -> tuple[Sequence[Answer_co], float]:
        """Answer every query of the batch, in order, and say how many seconds that took.

        What is computed is computed by `device`. `deadline`, in event-loop time, is the latest of the batch.
        """

    def check_golden(self, golden: GoldenRequests) -> None:
        """Raise GoldenMismatchError unless the golden requests are answered as when the release was made."""


@dataclass(frozen=True, kw_only=True)
class LoadedModel(Generic[Query, Answer]):
    """A release's network behind its batcher."""

    model: StageModel[Query, Answer]
    batcher: MicroBatcher[Query, tuple[Answer, int]]
    """Answers a query, and says how many microseconds its batch was computed."""

    async def close(self) -> None:
        """Wait for the batch in flight."""
        await self.batcher.close()


class StageHost(ABC, Generic[Settings, Query, Answer]):
    """The service of a stage, but for its messages, its checks and its network, which a subclass adds.

    Implements winnow.serving.server.Service.
    """

    name: ClassVar[str]
    grpc_service_names: ClassVar[Sequence[str]]
    release_files: frozenset[str]
    """What `build` reads of a release."""
    left_out: Mapping[str, str] = NOTHING_LEFT_OUT
    """By file, the tensor that it does not read."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._queue_metrics = metrics.queue(self.name.removesuffix("_service"))
        self._device = Device(settings.stuck_seconds)
        self.keeper: ReleaseKeeper[LoadedModel[Query, Answer]] = ReleaseKeeper(
            settings,
            self.release_files | {GOLDEN_FILE},
            self._load,
            metrics,
            derived_bytes=self.derived_bytes,
            left_out=self.left_out,
        )

    @abstractmethod
    def register(self, server: grpc.aio.Server) -> None:
        """See Service.register."""

    @abstractmethod
    def build(self, release: Release) -> StageModel[Query, Answer]:
        """Load the network. Raises ReleaseError where it does not fit the release."""

    @abstractmethod
    def check(self, query: Query, item_count: int) -> None:
        """Raise ValueError, naming the field, where a row or a number is out of bounds.

        Later would be too late: a query that fails in the network fails its whole batch.
        """

    async def prepare(self, model: StageModel[Query, Answer], query: Query) -> None:
        """Do what a query needs before it is computed, without holding the event loop. Raises ValueError as `check`."""

    def answered(self, model: StageModel[Query, Answer], query: Query, answer: Answer) -> None:
        """Take note of an answer. It is sent when this returns."""

    def derived_bytes(self, manifest: Manifest) -> int:
        """How much memory the network takes besides what is in its files; less than 0 where it takes less."""
        return 0

    async def answer(
        self, release_id: str, unpack: Callable[[], Query], context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> tuple[Answer, int] | None:
        """Return the release's answer to a call, and how many microseconds its batch was computed.

        `unpack` returns the query of the call, or raises ValueError. None where it asks nothing.
        """
        deadline = asyncio.get_running_loop().time() + remaining_seconds(context, self._settings)
        with self.keeper.held(release_id) as loaded:
            try:
                query = unpack()
                if len(query) > self._settings.max_batch_queries:
                    raise ValueError(f"{len(query)} queries: a call carries at most {self._settings.max_batch_queries}")
                self.check(query, loaded.model.item_count)
                await self.prepare(loaded.model, query)
            except ValueError as error:
                raise InvalidRequestError([Violation(WHOLE_REQUEST, str(error))]) from None
            if not all(query.work):
                return None
            answer = await loaded.batcher.submit(query, deadline=deadline, weight=len(query))
            self.answered(loaded.model, query, answer[0])
            return answer

    async def start(self) -> None:
        """See Service.start."""
        await self.keeper.load_current()

    async def watch(self) -> None:
        """See Service.watch."""
        await self.keeper.watch()

    def gatekeepers(self) -> Sequence[Gatekeeper]:
        """See Service.gatekeepers: the gateway alone has any."""
        return ()

    def alive(self) -> bool:
        """See Service.alive."""
        return self._device.alive()

    async def close(self) -> None:
        """See Service.close."""
        await self.keeper.close()
        self._device.close()

    def _load(self, release: Release) -> LoadedModel[Query, Answer]:
        model = self.build(release)
        # The warm-up too: it takes the path of every later query.
        model.check_golden(release.golden_requests())

        async def compute(batch: Sequence[Query], deadline: float) -> Sequence[tuple[Answer, int]]:
            answers, seconds = await model.answer(batch, self._device, deadline)
            return [(answer, int(seconds * 1e6)) for answer in answers]

        limits = BatchingLimits(
            max_batch_weight=self._settings.max_batch_queries,
            max_batches_in_flight=model.batches_in_flight,
            max_queued_weight=self._settings.max_queued_queries,
        )
        return LoadedModel(model=model, batcher=MicroBatcher(compute, limits, self._queue_metrics))
