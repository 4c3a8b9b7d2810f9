"""Adaptive micro-batching: batches form only while earlier ones are in flight, so there is no delay to tune.

An item that arrives while nothing is in flight is dispatched at once, together with what else arrives in the same turn
of the event loop. An item that arrives while a batch is in flight waits. What waits is dispatched, oldest first, when a
batch completes, or sooner, where enough waits to be worth a further batch. So nothing waits at low load, and batches
grow at high load. The gateway batches requests to the stages this way, each stage its computations, and the
asynchronous client its calls.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from winnow.rpc.errors import DeadlineError, OverloadedError, UnavailableError
from winnow.throughput import Throughput

Item = TypeVar("Item")
Result = TypeVar("Result")

Dispatch = Callable[[Sequence[Item], float], Awaitable[Sequence[Result]] | AsyncIterator[Sequence[Result]]]

# Dispatching costs about as much as a batch that takes this long, whatever it carries. While such a short batch is in
# flight, items wait for its completion unless they fill a batch: with the small preset of the benchmark, whose batches
# take 5 to 15 ms under load, batches of 7 became batches of 30.
SHORT_BATCH_SECONDS = 0.02
# While longer ones are in flight, this part of a full batch is dispatched: stages, or their replicas, work in parallel.
FURTHER_BATCH_SHARE = 0.25
# A batch that takes this many times as long as usual, and as a short one, is overdue: nothing waits for it any more.
OVERDUE_FACTOR = 3.0


class IncompleteBatchError(Exception):
    """Raised by an asynchronous generator after its last list: the results stand, but a step of the batch has failed.

    The callers get their results. How long the batch took says nothing about the time of others.
    """

    def __init__(self, reason: str = "", *, overloaded: bool = False) -> None:
        """`overloaded` if the step has refused the work because it had too much of it."""
        super().__init__(reason)
        self.overloaded = overloaded


@dataclass(frozen=True, kw_only=True)
class BatchingLimits:
    """Bounds of one batcher. An item's weight is how much of a batch it fills, for example its number of queries."""

    max_batch_weight: int
    max_batches_in_flight: int
    max_queued_weight: int


class BatcherMetrics(Protocol):
    """Counts what a batcher does."""

    def add_queued(self, weight: int) -> None:
        """Count what begins to wait; a negative weight is what no longer does."""

    def on_shed(self) -> None:
        """An item was rejected because it could not be done in time."""

    def on_expired(self) -> None:
        """An item's deadline passed before there was a result."""

    def on_dispatched(self, weight: int, wait_seconds: float) -> None:
        """A batch was dispatched whose first item waited that long."""

    def on_completed(self, seconds: float) -> None:
        """A batch was in flight that long."""


class NoMetrics:
    """Counts nothing."""

    def add_queued(self, weight: int) -> None:
        """See BatcherMetrics."""

    def on_shed(self) -> None:
        """See BatcherMetrics."""

    def on_expired(self) -> None:
        """See BatcherMetrics."""

    def on_dispatched(self, weight: int, wait_seconds: float) -> None:
        """See BatcherMetrics."""

    def on_completed(self, seconds: float) -> None:
        """See BatcherMetrics."""


@dataclass(eq=False, slots=True)
class _Waiting(Generic[Item, Result]):
    item: Item
    weight: int
    deadline: float
    arrived_at: float
    future: asyncio.Future[Result]
    context: Context


@dataclass(eq=False, slots=True)
class _Batch(Generic[Item, Result]):
    dispatched_at: float
    waiting: list[_Waiting[Item, Result]]
    weight: int = 0
    results: Sequence[Result] = ()
    """The latest; empty while there are none."""

    def keep(self, results: Sequence[Result]) -> None:
        if len(results) != len(self.waiting):
            raise RuntimeError(f"{len(results)} results for a batch of {len(self.waiting)} items")
        self.results = results


class MicroBatcher(Generic[Item, Result]):
    """Calls `dispatch` with batches of items and hands each caller its own result.

    `dispatch` gets one or more items, oldest first, and the latest deadline among them (event-loop time). It returns
    one result for each item, in order. If it raises, the items of that batch fail with that exception, and no others.

    An asynchronous generator may yield several such lists, each replacing the one before: the last one is what callers
    get, and the latest one is what a caller gets whose deadline passes before that.
    """

    def __init__(self, dispatch: Dispatch[Item, Result], limits: BatchingLimits, metrics: BatcherMetrics) -> None:
        self._dispatch = dispatch
        self._limits = limits
        self._metrics = metrics
        self._usual_seconds = 0.0
        self._further_weight = FURTHER_BATCH_SHARE * limits.max_batch_weight
        self._throughput = Throughput(self._further_weight)
        self._queue: deque[_Waiting[Item, Result]] = deque()
        self._queued_weight = 0
        self._in_flight_weight = 0
        # In the order of dispatch.
        self._in_flight: dict[_Batch[Item, Result], asyncio.Task[None]] = {}
        self._scheduled = False
        self._overdue_timer: asyncio.TimerHandle | None = None
        self._closed = False

    async def submit(self, item: Item, *, deadline: float, weight: int = 1) -> Result:
        """Return the item's result.

        `deadline` is event-loop time. Raises OverloadedError at once where the queue is full or where what waits takes
        longer than the deadline allows; DeadlineError where the deadline passes before there is a result (an item that
        still waits then is not computed); UnavailableError after `close`; ValueError for a weight that fits no batch.
        An item whose caller is cancelled while it waits is not computed.
        """
        if not 1 <= weight <= self._limits.max_batch_weight:
            raise ValueError(f"weight is {weight}: a batch holds 1 to {self._limits.max_batch_weight}")
        if self._closed:
            raise UnavailableError("shutting down")
        loop = asyncio.get_running_loop()
        now = loop.time()
        if deadline <= now:
            self._metrics.on_expired()
            raise DeadlineError("the deadline had passed on arrival")
        expected_seconds = self.expected_seconds(weight)
        if self._queued_weight + weight > self._limits.max_queued_weight or now + expected_seconds > deadline:
            self._metrics.on_shed()
            raise OverloadedError("too much work is waiting", retry_after_seconds=expected_seconds)
        waiting: _Waiting[Item, Result] = _Waiting(item, weight, deadline, now, loop.create_future(), copy_context())
        self._queue.append(waiting)
        self._queued_weight += weight
        self._metrics.add_queued(weight)
        self._schedule(loop, now)
        expiry = loop.call_at(deadline, self._expire, waiting)
        try:
            return await waiting.future
        finally:
            expiry.cancel()

    def expected_seconds(self, weight: int = 1) -> float:
        """How long a new item would take until its result is there: as long as all that is ahead of it, and itself.

        0 where little is ahead or nothing is known. If little were judged too, one slow batch could lock everybody out
        for good: without further batches, the judgement would never change.
        """
        ahead = self._queued_weight + self._in_flight_weight
        return self._throughput.seconds(ahead + weight) if ahead > self._further_weight else 0.0

    async def close(self) -> None:
        """Refuse new items, fail those that wait, and return when no batch is in flight."""
        self._closed = True
        for waiting in self._queue:
            if not waiting.future.done():
                waiting.future.set_exception(UnavailableError("shutting down"))
        self._queue.clear()
        self._metrics.add_queued(-self._queued_weight)
        self._queued_weight = 0
        if self._overdue_timer is not None:
            self._overdue_timer.cancel()
        if self._in_flight:
            await asyncio.wait(self._in_flight.values())
        # `dispatch` is usually a method of the batcher's owner. This ends the reference cycle between the two, which
        # the garbage collector would not find: it does not look at what belongs to a release (see ReleaseLoader).
        self._dispatch = _closed

    def _schedule(self, loop: asyncio.AbstractEventLoop, now: float) -> None:
        """Dispatch when the event loop has run what is ready now.

        A batch that completes wakes many callers at once, and all of them ask the next stage in the same turn. If the
        first were dispatched alone, the others would wait for it.
        """
        if self._scheduled:
            return
        if self._may_dispatch(now):
            self._scheduled = True
            loop.call_soon(self._dispatch_waiting, loop)
        else:
            self._watch_for_overdue(loop)

    def _may_dispatch(self, now: float) -> bool:
        if not self._queue or len(self._in_flight) >= self._limits.max_batches_in_flight:
            return False
        if not self._in_flight or now >= self._all_overdue_at():
            return True
        short = 0 < self._usual_seconds <= SHORT_BATCH_SECONDS
        return self._queued_weight >= (self._limits.max_batch_weight if short else self._further_weight)

    def _all_overdue_at(self) -> float:
        """When the newest batch in flight becomes overdue; the others are by then."""
        newest = next(reversed(self._in_flight))
        return newest.dispatched_at + OVERDUE_FACTOR * max(self._usual_seconds, SHORT_BATCH_SECONDS)

    def _watch_for_overdue(self, loop: asyncio.AbstractEventLoop) -> None:
        """Dispatch what waits when all batches in flight are overdue, even if nothing else happens until then."""
        slots = self._limits.max_batches_in_flight - len(self._in_flight)
        if self._queue and slots > 0 and self._overdue_timer is None:
            self._overdue_timer = loop.call_at(self._all_overdue_at(), self._on_overdue, loop)

    def _on_overdue(self, loop: asyncio.AbstractEventLoop) -> None:
        self._overdue_timer = None
        self._dispatch_waiting(loop)

    def _dispatch_waiting(self, loop: asyncio.AbstractEventLoop) -> None:
        self._scheduled = False
        now = loop.time()
        while self._may_dispatch(now):
            batch = self._next_batch(now)
            if batch.waiting:
                # In the context of its oldest item, not of whatever happens to dispatch it: calls belong to its trace.
                self._in_flight[batch] = loop.create_task(self._run(batch), context=batch.waiting[0].context)
        self._watch_for_overdue(loop)

    def _next_batch(self, now: float) -> _Batch[Item, Result]:
        batch: _Batch[Item, Result] = _Batch(now, [])
        weight = 0
        queued_weight = self._queued_weight
        while self._queue:
            head = self._queue[0]
            gone = head.future.done()  # its caller was cancelled, or it expired
            if not gone and weight + head.weight > self._limits.max_batch_weight:
                break
            self._queue.popleft()
            self._queued_weight -= head.weight
            if gone:
                continue
            if head.deadline <= now:
                self._expire(head)
                continue
            batch.waiting.append(head)
            weight += head.weight
        batch.weight = weight
        self._in_flight_weight += weight
        self._metrics.add_queued(self._queued_weight - queued_weight)
        if batch.waiting:
            self._metrics.on_dispatched(weight, now - batch.waiting[0].arrived_at)
        return batch

    async def _run(self, batch: _Batch[Item, Result]) -> None:
        loop = asyncio.get_running_loop()
        failure: Exception | None = None
        try:
            await self._collect(batch)
            self._learn(batch, loop.time())
        except IncompleteBatchError as error:
            failure = None if batch.results else error
            if error.overloaded:
                self._throughput.refused(loop.time())
        except asyncio.CancelledError:
            # Re-raised in the callers, it would end their calls without a status.
            failure = UnavailableError("shutting down")
            raise
        except Exception as error:
            failure = error
        finally:
            del self._in_flight[batch]
            self._in_flight_weight -= batch.weight
            # Before the callers are woken: the next batch is in flight while they build their answers.
            self._dispatch_waiting(loop)
            if not self._in_flight:
                self._throughput.forget()
            _deliver(batch, failure)

    async def _collect(self, batch: _Batch[Item, Result]) -> None:
        answer = self._dispatch(
            [waiting.item for waiting in batch.waiting], max(waiting.deadline for waiting in batch.waiting)
        )
        if isinstance(answer, AsyncIterator):
            async for results in answer:
                batch.keep(results)
            batch.keep(batch.results)  # raises where nothing was yielded
        else:
            batch.keep(await answer)

    def _learn(self, batch: _Batch[Item, Result], now: float) -> None:
        """Learn how long batches take. A failed one says nothing about that."""
        seconds = now - batch.dispatched_at
        self._metrics.on_completed(seconds)
        self._throughput.completed(batch.weight, now)
        # The newest counts half, so that a change of load shows within a few batches. A single one that waited for a
        # dead peer is no such change: none counts as more than twice the usual time.
        usual = self._usual_seconds or seconds
        self._usual_seconds = (usual + min(seconds, 2 * usual)) / 2

    def _expire(self, waiting: _Waiting[Item, Result]) -> None:
        if waiting.future.done():
            return
        for batch in self._in_flight:
            if batch.results and waiting in batch.waiting:
                waiting.future.set_result(batch.results[batch.waiting.index(waiting)])
                return
        self._metrics.on_expired()
        waiting.future.set_exception(DeadlineError("the deadline passed before there was a result"))


def _deliver(batch: _Batch[Item, Result], failure: Exception | None) -> None:
    if failure is None:
        for waiting, result in zip(batch.waiting, batch.results, strict=True):
            if not waiting.future.done():
                waiting.future.set_result(result)
    else:
        for waiting in batch.waiting:
            if not waiting.future.done():
                waiting.future.set_exception(failure)


async def _closed(_items: Sequence[Item], _deadline: float) -> Sequence[Result]:
    raise UnavailableError("shutting down")
