"""What users did, as it is sent to the gateway's store and comes back from it."""

import secrets
import time as clock
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from winnow.client.request_messages import seconds_of
from winnow.client.watches import Time
from winnow.rpc.uuid7 import uuid7
from winnow.v1 import users_pb2

# The contract's maximum.
MAX_WRITTEN_EVENTS = 1_000


class EventKind(StrEnum):
    """What a user did with an item."""

    WATCH = "WATCH"
    """Watched it: part of the history that recommendations are made from."""
    CLICK = "CLICK"
    IMPRESSION = "IMPRESSION"
    """Was shown it."""
    DISMISSAL = "DISMISSAL"
    """Does not want to see it: it is left out of the user's recommendations."""


def new_event_id() -> str:
    """Return an id that no other event has; ids sort by time."""
    return uuid7(clock.time_ns(), secrets.randbits(62))


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that a user did, or was shown. Sending the same event again changes nothing."""

    user_id: str
    item_id: str
    kind: EventKind = EventKind.WATCH
    time: Time = field(default_factory=clock.time)
    """Now unless given; stored in whole seconds."""
    weight: float | None = None
    """How much a watch counts: a rating, seconds watched."""
    recommendation_id: str = ""
    """Of the answer that the item was in."""
    event_id: str = field(default_factory=new_event_id)
    """Names the event among those of the user; a new UUID unless given."""


_KINDS = {kind: users_pb2.EventKind.Value(f"EVENT_KIND_{kind}") for kind in EventKind}
_KIND_OF = {number: kind for kind, number in _KINDS.items()}


def write_requests(events: Iterable[Event]) -> list[users_pb2.WriteEventsRequest]:
    """Return as many requests as the events need. Raise TypeError or ValueError that names the event."""
    messages = [_message(position, event) for position, event in enumerate(events)]
    return [
        users_pb2.WriteEventsRequest(events=messages[start : start + MAX_WRITTEN_EVENTS])
        for start in range(0, len(messages), MAX_WRITTEN_EVENTS)
    ]


def history_request(user_id: str, page_token: str) -> users_pb2.GetHistoryRequest:
    """Ask for a page of a user's events."""
    return users_pb2.GetHistoryRequest(user_id=user_id, page_token=page_token)


def events_of(response: users_pb2.GetHistoryResponse) -> list[Event]:
    """Read a page. Events of kinds that this version of the client does not know are left out."""
    return [
        Event(
            user_id=event.user_id,
            item_id=event.item_id,
            kind=_KIND_OF[event.kind],
            time=event.timestamp_seconds,
            weight=event.weight if event.HasField("weight") else None,
            recommendation_id=event.recommendation_id,
            event_id=event.event_id,
        )
        for event in response.events
        if event.kind in _KIND_OF
    ]


def _message(position: int, event: object) -> users_pb2.Event:
    if not isinstance(event, Event):
        raise TypeError(f"events[{position}] is of type {type(event).__name__}: an Event is needed")
    for name in ("user_id", "item_id", "recommendation_id", "event_id"):
        value = getattr(event, name)
        if not isinstance(value, str):
            raise TypeError(f"events[{position}].{name} is of type {type(value).__name__}: str is needed")
    if event.kind not in _KINDS:
        raise ValueError(f"events[{position}].kind is {event.kind!r}: an EventKind is needed")
    return users_pb2.Event(
        user_id=event.user_id,
        event_id=event.event_id,
        kind=_KINDS[event.kind],
        item_id=event.item_id,
        timestamp_seconds=seconds_of(f"events[{position}].time", event.time) or 0,
        weight=event.weight,
        recommendation_id=event.recommendation_id,
    )
