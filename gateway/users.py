"""From a user id to the stored history, and from events to the store.

Users who are asked for at the same time are read in one round trip, whatever their requests are, and events that are
sent at the same time are written together.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import NamedTuple, TypeVar

import grpc
import structlog

from gateway.settings import MAX_WRITTEN_EVENTS, GatewaySettings
from gateway.stage_calls import StageFailure
from gateway.steps import Steps
from winnow.answer_log.deleted_users import note_deletion
from winnow.batching import BatchingLimits, MicroBatcher
from winnow.rpc.errors import ServiceError, UnavailableError
from winnow.serving.metrics import Metrics
from winnow.users.events import ALL_KINDS, Event, UserHistory, unclicked_item_ids
from winnow.users.store import HistoryStore, StoreError

_log = structlog.get_logger(__name__)

Result = TypeVar("Result")

MAX_BATCHES_IN_FLIGHT = 2
# Of the time that a request has left, what reading its history may take: both stages come after it.
READING_SHARE = 0.3
# Events that wait to be written take less than 2 kB each.
MAX_QUEUED_EVENTS = 10 * MAX_WRITTEN_EVENTS
# Of those that wait to be read as a whole, and of those that wait to be deleted.
MAX_QUEUED_USERS = 64
# A store that does not answer does not keep the gateway from stopping.
CLOSE_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredHistory:
    """What the store has of the user of a request, oldest first."""

    item_ids: Sequence[str] = ()
    """Of the watches."""
    weights: Sequence[float | None] = ()
    times: Sequence[int] = ()
    unclicked_item_ids: Sequence[str] = ()
    dismissed_item_ids: Sequence[str] = ()
    """In any order."""
    failure: StageFailure | None = None
    """Why nothing could be read."""
    microseconds: int | None = None


class _Asked(NamedTuple):
    user_id: str
    with_impressions: bool


class Users:
    """Reads from and writes to the store. Deadlines are event-loop times."""

    def __init__(self, store: HistoryStore, settings: GatewaySettings, metrics: Metrics) -> None:
        self._store = store
        self._answer_log = settings.answer_log
        self._timeout_seconds = settings.users_timeout_seconds
        self._steps = Steps(metrics)
        self._stored = metrics.user_events
        self._failures = metrics.user_store_failures
        self._reads = MicroBatcher[_Asked, StoredHistory](
            self._read_histories,
            BatchingLimits(
                max_batch_weight=settings.max_batch_queries,
                max_batches_in_flight=MAX_BATCHES_IN_FLIGHT,
                max_queued_weight=settings.max_queued_queries,
            ),
            metrics.queue("users"),
        )
        # Whole users are read and deleted one by one: others' watches do not wait for many of them.
        one_by_one = BatchingLimits(max_batch_weight=1, max_batches_in_flight=1, max_queued_weight=MAX_QUEUED_USERS)
        self._whole_reads = MicroBatcher[str, list[Event]](self._read_events, one_by_one, metrics.queue("histories"))
        self._deletions = MicroBatcher[str, int](self._delete_user, one_by_one, metrics.queue("deletions"))
        self._writes = MicroBatcher[Sequence[Event], None](
            self._write_events,
            BatchingLimits(
                max_batch_weight=MAX_WRITTEN_EVENTS,
                max_batches_in_flight=MAX_BATCHES_IN_FLIGHT,
                max_queued_weight=MAX_QUEUED_EVENTS,
            ),
            metrics.queue("events"),
        )
        self.open = store.open

    async def stored_history(self, user_id: str, deadline: float, *, with_impressions: bool) -> StoredHistory:
        """Return the user's watches and unclicked items, or why there are none: a store that is late gave no answer."""
        now = asyncio.get_running_loop().time()
        timeout_seconds = min(self._timeout_seconds, READING_SHARE * (deadline - now))
        try:
            return await self._reads.submit(_Asked(user_id, with_impressions), deadline=now + timeout_seconds)
        except (StoreError, ServiceError) as error:
            code = error.code if isinstance(error, ServiceError) else grpc.StatusCode.UNAVAILABLE
            self._count(error, "read", code)
            return StoredHistory(failure=StageFailure("users", code))

    async def events(self, user_id: str, deadline: float) -> list[Event]:
        """Return all events of a user. Raises UnavailableError, and what MicroBatcher.submit raises."""
        return await self._available(self._whole_reads.submit(user_id, deadline=deadline), "read")

    async def write(self, events: Sequence[Event], deadline: float) -> None:
        """Return when the store has all events. Raises as `events`: then it may have all of them, or none."""
        await self._available(self._writes.submit(events, deadline=deadline, weight=len(events)), "write")
        for kind, count in Counter(event.kind for event in events).items():
            self._stored.labels(kind.name.lower()).inc(count)

    async def delete(self, user_id: str, deadline: float) -> int:
        """Remove a user and return how many events there were. Raises as `events`; the user may be gone then."""
        return await self._available(self._deletions.submit(user_id, deadline=deadline), "delete")

    async def close(self) -> None:
        """Finish what is under way, unless the store does not answer."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                for batches in (self._reads, self._whole_reads, self._deletions, self._writes):
                    await batches.close()
                await self._store.close()
        except TimeoutError:
            self._failures.labels("close", grpc.StatusCode.DEADLINE_EXCEEDED.name).inc()

    async def _available(self, answer: Awaitable[Result], operation: str) -> Result:
        try:
            return await answer
        except StoreError as error:
            self._count(error, operation, grpc.StatusCode.UNAVAILABLE)
            raise UnavailableError("the store of users cannot be used") from error

    def _count(self, error: Exception, operation: str, code: grpc.StatusCode) -> None:
        self._failures.labels(operation, code.name).inc()
        if isinstance(error, StoreError):
            _log.warning("the store of users cannot be used", operation=operation, reason=str(error))

    async def _read_histories(self, asked: Sequence[_Asked], _deadline: float) -> list[StoredHistory]:
        user_ids = [one.user_id for one in asked]
        histories: Iterable[UserHistory]
        unclicked: Iterable[Sequence[str]] = repeat(())
        with self._steps("users") as clock:
            if any(one.with_impressions for one in asked):
                found = await self._store.read(user_ids, ALL_KINDS)
                histories = map(UserHistory.of, found)
                unclicked = map(unclicked_item_ids, found)
            else:
                histories = await self._store.histories(user_ids)
        return [
            StoredHistory(
                item_ids=history.item_ids,
                weights=history.weights,
                times=history.times,
                dismissed_item_ids=history.dismissed_item_ids,
                unclicked_item_ids=unclicked_ids if one.with_impressions else (),
                microseconds=clock.microseconds,
            )
            for one, history, unclicked_ids in zip(asked, histories, unclicked, strict=False)
        ]

    async def _read_events(self, user_ids: Sequence[str], _deadline: float) -> list[list[Event]]:
        return await self._store.read(user_ids, ALL_KINDS)

    async def _delete_user(self, user_ids: Sequence[str], _deadline: float) -> list[int]:
        for user_id in user_ids:
            # First: where this fails, nothing is deleted, and the caller tries again.
            await self._note_deletion(user_id)
        return [await self._store.delete(user_id) for user_id in user_ids]

    async def _note_deletion(self, user_id: str) -> None:
        if self._answer_log is None:
            return
        try:
            await asyncio.to_thread(note_deletion, self._answer_log, user_id)
        except OSError as error:
            raise StoreError(f"answer log: {type(error).__name__}") from error

    async def _write_events(self, writes: Sequence[Sequence[Event]], _deadline: float) -> list[None]:
        await self._store.append([event for events in writes for event in events])
        return [None] * len(writes)
