"""Where a stage computes: one computation at a time, off the event loop unless that takes longer than computing."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ClassVar, Generic, Protocol, TypeVar

Result = TypeVar("Result")

Work = tuple[int, ...]
"""The quantities that the time of a computation grows with, such as its numbers of queries and of candidates."""


class StageQuery(Protocol):
    """The query of one call: a number of queries that are answered together."""

    def __len__(self) -> int:
        """How many queries."""

    @property
    def work(self) -> Work:
        """The quantities that the time to compute them grows with."""


Query = TypeVar("Query", bound=StageQuery)
Answer = TypeVar("Answer")

# Waking a thread, and being woken by it, takes a good part of a millisecond on an idle machine: as long as the networks
# of a small catalogue. Calls that arrive during a computation on the event loop wait this long at most.
SHORT_COMPUTATION_SECONDS = 0.003


class Device:
    """Runs computations one at a time: on the event loop if they are short, else in a thread, to keep the loop free.

    How long a computation takes is predicted from the latest one.
    """

    def __init__(self, stuck_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """A computation that takes longer than `stuck_seconds` is stuck."""
        self._stuck_seconds = stuck_seconds
        self._clock = clock
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="device")
        self._submitted: Future[Any] | None = None
        self._computing_since: float | None = None
        self._latest: tuple[Work, float] | None = None

    async def run(self, compute: Callable[[], Result], work: Work) -> tuple[Result, float]:
        """Return what `compute` returns and how many seconds it took."""
        thread_is_free = self._submitted is None or self._submitted.done()
        if thread_is_free and self._expected_seconds(work) <= SHORT_COMPUTATION_SECONDS:
            return self._compute(compute, work)
        future = self._submitted = self._thread.submit(self._compute, compute, work)
        return await asyncio.wrap_future(future)

    def alive(self) -> bool:
        """Whether no computation is stuck."""
        since = self._computing_since
        return since is None or self._clock() - since < self._stuck_seconds

    def close(self) -> None:
        """End the thread, without waiting for a computation."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _expected_seconds(self, work: Work) -> float:
        """As if all the time went with the quantity that has grown most since the latest computation."""
        if self._latest is None:
            return float("inf")
        latest_work, latest_seconds = self._latest
        return latest_seconds * max(now / max(then, 1) for now, then in zip(work, latest_work, strict=True))

    def _compute(self, compute: Callable[[], Result], work: Work) -> tuple[Result, float]:
        started = self._computing_since = self._clock()
        try:
            result = compute()
        finally:
            self._computing_since = None
        seconds = self._clock() - started
        self._latest = work, seconds
        return result, seconds


class ComputedModel(ABC, Generic[Query, Answer]):
    """A network that answers a batch by one computation, from what is in memory. Implements StageModel in part."""

    batches_in_flight: ClassVar[int] = 1

    @abstractmethod
    def compute(self, batch: Sequence[Query]) -> Sequence[Answer]:
        """Answer every query of the batch in one go, in order. Called from one thread at a time."""

    async def answer(self, batch: Sequence[Query], device: Device, _deadline: float) -> tuple[Sequence[Answer], float]:
        """See StageModel.answer."""
        return await device.run(lambda: self.compute(batch), work_of(batch))


def work_of(batch: Sequence[StageQuery]) -> Work:
    """The work of all queries together."""
    return tuple(map(sum, zip(*(query.work for query in batch), strict=True)))
