"""Adaptive micro-batching without a timer: batches form only while every slot is busy.

At most `max_flights` batches are under way. What arrives while none is leaves at once, together with what arrives in
the same turn of the event loop; what arrives while some are waits, and leaves together, in order of arrival, when one
lands, or beside them where a slot is free and enough waits to be worth a flight of its own. So there is no delay to
tune: no waiting at low load, large batches at high load. The gateway uses this towards the stages, each stage towards
its device.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from winnow.serving.errors import DeadlineError, OverloadedError, UnavailableError
from winnow.serving.metrics import QueueMetrics

Item = TypeVar("Item")
Result = TypeVar("Result")


# Flights up to this long take about as long as the work of sending them off, which is the same whatever they carry:
# what arrives meanwhile does better to wait for their landing, unless it fills a batch. On the small preset of the
# benchmark, whose flights take 5 to 15 ms under load, batches of 7 became batches of 30.
SHORT_FLIGHT_SECONDS = 0.02
# Beside longer flights, this part of a full batch is worth another: stages, or their replicas, work side by side.
FURTHER_FLIGHT_SHARE = 0.25
# A flight that takes this many times as long as usual, and as a short one, is not waited for.
OVERDUE_FACTOR = 3.0


@dataclass(frozen=True, kw_only=True)
class BatchingLimits:
    """Bounds of one batcher. An item's weight is how much of a batch it fills, for example its number of queries."""

    max_batch_weight: int
    max_flights: int
    max_queued_weight: int


@dataclass(eq=False, slots=True)
class _Waiting(Generic[Item, Result]):
    item: Item
    weight: int
    deadline: float
    arrived: float
    future: asyncio.Future[Result]
    partial: list[Result] = field(default_factory=list)


class MicroBatcher(Generic[Item, Result]):
    """Runs `fly` on batches of items and hands each caller its own result.

    `fly` gets 1 to many items, oldest first, and the latest deadline among them (event-loop time); it returns one
    result an item, in order. If it raises, every item of that batch fails with that exception and no other is touched.
    """

    def __init__(
        self,
        fly: Callable[[Sequence[Item], float], Awaitable[Sequence[Result]] | AsyncIterator[Sequence[Result]]],
        limits: BatchingLimits,
        metrics: QueueMetrics,
    ) -> None:
        self._fly = fly
        self._limits = limits
        self._metrics = metrics
        self._flight_seconds = 0.0
        self._took_off_at = 0.0
        self._queue: deque[_Waiting[Item, Result]] = deque()
        self._queued_weight = 0
        self._flights: set[asyncio.Task[None]] = set()
        self._taking_off = False
        self._closed = False

    async def submit(self, item: Item, *, deadline: float, weight: int = 1) -> Result:
        """Return the item's result.

        `deadline` is event-loop time. Raises OverloadedError at once where the queue is full or what already waits
        takes longer than the deadline allows, DeadlineError where the deadline passes first (the item is not computed
        if it is still waiting), UnavailableError after `close`, ValueError for a weight that fits no batch. Cancelling
        the caller takes a waiting item out.
        """
        if not 1 <= weight <= self._limits.max_batch_weight:
            raise ValueError(f"weight is {weight}: a batch holds 1 to {self._limits.max_batch_weight}")
        if self._closed:
            raise UnavailableError("shutting down")
        loop = asyncio.get_running_loop()
        now = loop.time()
        if deadline <= now:
            self._metrics.expired.inc()
            raise DeadlineError("the deadline had passed on arrival")
        wait_seconds = self.expected_wait_seconds()
        if self._queued_weight + weight > self._limits.max_queued_weight or now + wait_seconds > deadline:
            self._metrics.shed.inc()
            raise OverloadedError("too much work is waiting", retry_after_seconds=wait_seconds)
        waiting = _Waiting(item, weight, deadline, now, loop.create_future())
        self._queue.append(waiting)
        self._queued_weight += weight
        self._take_off_soon(loop)
        expiry = loop.call_at(deadline, self._expire, waiting)
        try:
            result: Result = await waiting.future
            return result
        finally:
            expiry.cancel()

    def expected_wait_seconds(self) -> float:
        """How long a new item would wait and fly, judged by the latest flights; 0 while nothing waits for a landing.

        What finds an empty queue is always taken: were it judged too, one slow flight could shut everybody out for
        good, since without flights the judgement never changes.
        """
        if not self._queue or self._taking_off:
            return 0.0
        flights_ahead = self._queued_weight // self._limits.max_batch_weight + 1
        return self._flight_seconds * (flights_ahead / self._limits.max_flights + 1)

    async def close(self) -> None:
        """Refuse new items, fail those that wait, and return when no batch is under way."""
        self._closed = True
        while self._queue:
            waiting = self._queue.popleft()
            if not waiting.future.done():
                waiting.future.set_exception(UnavailableError("shutting down"))
        self._queued_weight = 0
        if self._flights:
            await asyncio.wait(self._flights)

    def _take_off_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take off when the event loop has run what is ready now.

        A batch that lands wakes many callers at once, and all of them ask the next stage in one turn: were the first to
        leave alone, the others would wait for its return.
        """
        if not self._taking_off and self._may_take_off(loop.time()):
            self._taking_off = True
            loop.call_soon(self._take_off, loop)

    def _may_take_off(self, now: float) -> bool:
        if not self._queue or len(self._flights) >= self._limits.max_flights:
            return False
        if not self._flights:
            return True
        if now - self._took_off_at > OVERDUE_FACTOR * max(self._flight_seconds, SHORT_FLIGHT_SECONDS):
            # Not worth waiting for: another replica may do better.
            return True
        share = 1.0 if 0 < self._flight_seconds <= SHORT_FLIGHT_SECONDS else FURTHER_FLIGHT_SHARE
        return self._queued_weight >= share * self._limits.max_batch_weight

    def _take_off(self, loop: asyncio.AbstractEventLoop) -> None:
        self._taking_off = False
        now = loop.time()
        while self._may_take_off(now):
            batch = self._next_batch(now)
            if batch:
                self._took_off_at = now
                flight = loop.create_task(self._run(batch))
                self._flights.add(flight)
                flight.add_done_callback(self._flights.discard)
        self._metrics.queued.set(self._queued_weight)

    def _next_batch(self, now: float) -> list[_Waiting[Item, Result]]:
        batch: list[_Waiting[Item, Result]] = []
        weight = 0
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
            batch.append(head)
            weight += head.weight
        if batch:
            self._metrics.wait_seconds.observe(now - batch[0].arrived)
        return batch

    async def _run(self, batch: list[_Waiting[Item, Result]]) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        self._metrics.batch_size.observe(sum(waiting.weight for waiting in batch))
        items, deadline = [waiting.item for waiting in batch], max(waiting.deadline for waiting in batch)
        results: Sequence[Result] | None = None
        try:
            work = self._fly(items, deadline)
            if isinstance(work, AsyncIterator):
                async for results in work:
                    for waiting, result in zip(batch, results, strict=True):
                        waiting.partial = [result]
            else:
                results = await work
            assert results is not None  # noqa: S101
            assert len(results) == len(batch)  # noqa: S101 - a promise to ourselves
        except asyncio.CancelledError:
            # Re-raising it into the callers would end their calls without a status.
            self._fail(batch, UnavailableError("shutting down"))
            raise
        except Exception as error:
            self._land(loop)
            if results is None:
                self._fail(batch, error)
                return
        else:
            self._learn(loop.time() - started)
            self._land(loop)
        for waiting, result in zip(batch, results, strict=True):
            if not waiting.future.done():
                waiting.future.set_result(result)

    def _learn(self, seconds: float) -> None:
        self._metrics.batch_seconds.observe(seconds)
        # Half the weight on the newest: a change of load shows within a few flights. A single one that took very long,
        # waiting for a dead peer, must not pass for a change: it counts as twice the usual time. Failed flights tell
        # nothing about how long work takes.
        usual = self._flight_seconds or seconds
        self._flight_seconds = (usual + min(seconds, 2 * usual)) / 2

    def _land(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let what waits take off before the callers are woken: it is under way while they build their answers."""
        flight = asyncio.current_task()
        assert flight is not None  # noqa: S101 - flights are tasks
        self._flights.discard(flight)
        self._take_off(loop)

    def _expire(self, waiting: "_Waiting[Item, Result]") -> None:
        if waiting.future.done():
            return
        if waiting.partial:
            waiting.future.set_result(waiting.partial[0])
            return
        self._metrics.expired.inc()
        waiting.future.set_exception(DeadlineError("the deadline passed while the work was waiting or under way"))

    @staticmethod
    def _fail(batch: list[_Waiting[Item, Result]], error: Exception) -> None:
        for waiting in batch:
            if not waiting.future.done():
                waiting.future.set_exception(error)
