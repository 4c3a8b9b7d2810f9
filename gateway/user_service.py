"""UserService over gRPC: events in, histories out."""

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast

import grpc

from gateway.checks import TIME_LIMIT_SECONDS, Violations
from gateway.settings import MAX_WRITTEN_EVENTS
from gateway.users import Users
from winnow.catalogue.vocabulary import MAX_ITEM_ID_BYTES
from winnow.rpc.errors import ServiceError
from winnow.users.events import MAX_EVENT_ID_BYTES, MAX_USER_ID_BYTES, Event, EventKind
from winnow.v1 import users_pb2, users_pb2_grpc

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

MAX_PAGE_SIZE = 1000
# Clocks differ, and time zones are mistaken for each other. An event of the far future would stay the latest one of its
# user, and of all users: what is trending is measured from there, and what is new.
MAX_AHEAD_SECONDS = 86_400
# A time of up to 12 digits and its sign, and an event id.
MAX_PAGE_TOKEN_BYTES = 14 + MAX_EVENT_ID_BYTES

_KINDS = {int(kind): kind for kind in EventKind}


class NoStoreError(ServiceError):
    """The gateway keeps no histories."""

    code = grpc.StatusCode.FAILED_PRECONDITION

    def __init__(self) -> None:
        super().__init__("this gateway has no store of users: see its setting users_store")


class UserService(users_pb2_grpc.UserServiceServicer):
    """Implements winnow.v1.UserService."""

    def __init__(
        self,
        users: Users | None,
        deadline: Callable[[Context], float],
        on_stored: Callable[[Sequence[Event]], None] = lambda _events: None,
    ) -> None:
        """`users` is None where the gateway has no store. `deadline` returns the event-loop time that a call has.

        `on_stored` is told of events once the store has them; of one that is sent again, again.
        """
        self._users = users
        self._on_stored = on_stored
        self._deadline = deadline

    async def WriteEvents(
        self, message: users_pb2.WriteEventsRequest, context: Context
    ) -> users_pb2.WriteEventsResponse:
        """Store events; answered when the store has them."""
        events = read_events(message, int(time.time()))
        await self._store.write(events, self._deadline(context))
        self._on_stored(events)
        return users_pb2.WriteEventsResponse()

    async def GetHistory(self, message: users_pb2.GetHistoryRequest, context: Context) -> users_pb2.GetHistoryResponse:
        """Return the stored events of a user, a page at a time."""
        users = self._store
        violations = Violations()
        check_user_id(message.user_id, violations)
        page_size = violations.check_count("page_size", message.page_size, MAX_PAGE_SIZE, MAX_PAGE_SIZE)
        start = _position(message.page_token, violations)
        violations.refuse()
        events = await users.events(message.user_id, self._deadline(context))
        if start is not None:
            events = [event for event in events if event.position > start]
        page = events[:page_size]
        return users_pb2.GetHistoryResponse(
            events=[_message(event) for event in page],
            next_page_token=f"{page[-1].timestamp_seconds}:{page[-1].event_id}" if len(events) > page_size else "",
        )

    async def DeleteUser(self, message: users_pb2.DeleteUserRequest, context: Context) -> users_pb2.DeleteUserResponse:
        """Remove every stored event of a user."""
        users = self._store
        violations = Violations()
        check_user_id(message.user_id, violations)
        violations.refuse()
        deleted_count = await users.delete(message.user_id, self._deadline(context))
        return users_pb2.DeleteUserResponse(deleted_event_count=deleted_count)

    @property
    def _store(self) -> Users:
        if self._users is None:
            raise NoStoreError
        return self._users


def check_user_id(user_id: str, violations: Violations, field: str = "user_id") -> None:
    """Check the length of a user id."""
    size = len(user_id.encode())
    if not 1 <= size <= MAX_USER_ID_BYTES:
        violations.add(field, f"is {size} bytes long: 1 to {MAX_USER_ID_BYTES} are needed" if size else "is empty")


def read_events(message: users_pb2.WriteEventsRequest, now_seconds: int) -> list[Event]:
    """Raise InvalidRequestError that names what is wrong with which event. `now_seconds` are since 1970."""
    violations = Violations()
    count = len(message.events)
    if not 1 <= count <= MAX_WRITTEN_EVENTS:
        violations.add("events", f"has {count} events: 1 to {MAX_WRITTEN_EVENTS} are needed")
        violations.refuse()
    # Every pass over a repeated field makes its messages anew.
    sent = list(message.events)
    _check_lengths("user_id", [event.user_id for event in sent], 1, MAX_USER_ID_BYTES, violations)
    _check_lengths("event_id", [event.event_id for event in sent], 1, MAX_EVENT_ID_BYTES, violations)
    _check_lengths("item_id", [event.item_id for event in sent], 1, MAX_ITEM_ID_BYTES, violations)
    ids = [event.recommendation_id for event in sent]
    _check_lengths("recommendation_id", ids, 0, MAX_EVENT_ID_BYTES, violations)
    kinds = [_KINDS.get(event.kind) for event in sent]
    times = [event.timestamp_seconds for event in sent]
    weights = [event.weight if event.HasField("weight") else None for event in sent]
    violations.check_times("events[{}].timestamp_seconds", times)
    violations.check_weights("events[{}].weight", weights)
    for position, (kind, seconds, weight) in enumerate(zip(kinds, times, weights, strict=True)):
        if kind is None:
            violations.add(f"events[{position}].kind", "is not one of WATCH, CLICK, IMPRESSION and DISMISSAL")
        elif weight is not None and kind is not EventKind.WATCH:
            violations.add(f"events[{position}].weight", "is set, but only a watch has a weight")
        if seconds == 0:
            violations.add(f"events[{position}].timestamp_seconds", "is not set")
        elif now_seconds + MAX_AHEAD_SECONDS < seconds < TIME_LIMIT_SECONDS:
            violations.add(f"events[{position}].timestamp_seconds", f"is {seconds}: more than a day in the future")
    violations.refuse()
    return [
        Event(
            user_id=event.user_id,
            event_id=event.event_id,
            kind=_KINDS[event.kind],
            item_id=event.item_id,
            timestamp_seconds=event.timestamp_seconds,
            weight=weight,
            recommendation_id=event.recommendation_id,
        )
        for event, weight in zip(sent, weights, strict=True)
    ]


def _check_lengths(field: str, values: list[str], shortest: int, longest: int, violations: Violations) -> None:
    for position, value in enumerate(values):
        # UTF-8 has at most 4 bytes a character: nearly no id has to be encoded.
        if shortest <= len(value) <= longest // 4:
            continue
        size = len(value.encode())
        if shortest <= size <= longest:
            continue
        wrong = f"is {size} bytes long: at most {longest}" if size else "is empty"
        if not violations.add(f"events[{position}].{field}", wrong):
            return


def _position(page_token: str, violations: Violations) -> tuple[int, str] | None:
    """The position of the last event of the page before."""
    if not page_token:
        return None
    seconds, found, event_id = page_token.partition(":")
    digits = seconds.removeprefix("-")
    if not found or len(page_token) > MAX_PAGE_TOKEN_BYTES or not (digits.isascii() and digits.isdigit()):
        violations.add("page_token", "is not one that a page has given")
        return None
    return int(seconds), event_id


def _message(event: Event) -> users_pb2.Event:
    return users_pb2.Event(
        user_id=event.user_id,
        event_id=event.event_id,
        kind=cast("users_pb2.EventKind.ValueType", int(event.kind)),
        item_id=event.item_id,
        timestamp_seconds=event.timestamp_seconds,
        weight=event.weight,
        recommendation_id=event.recommendation_id,
    )
