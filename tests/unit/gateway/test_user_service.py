"""What WriteEvents takes, and what it says of the rest."""

import pytest

from gateway.settings import FRAMING_BYTES_PER_EVENT, MAX_WRITTEN_EVENTS, GatewaySettings
from gateway.user_service import read_events
from tests.unit.users.events import event
from winnow.rpc.errors import MAX_VIOLATIONS, InvalidRequestError
from winnow.serving.decoding import has_more_framing
from winnow.users.events import EventKind
from winnow.v1 import users_pb2

NOW = 1_800_000_000


def message(event_id: str = "1", **changes: object) -> users_pb2.Event:
    fields = {
        "user_id": "ann",
        "event_id": event_id,
        "kind": EventKind.WATCH,
        "item_id": f"item {event_id}",
        "timestamp_seconds": 1_700_000_000,
        **changes,
    }
    return users_pb2.Event(**fields)  # type: ignore[arg-type]


def violations(*events: users_pb2.Event) -> list[str]:
    with pytest.raises(InvalidRequestError) as raised:
        read_events(users_pb2.WriteEventsRequest(events=events), NOW)
    return [violation.field for violation in raised.value.violations]


def test_good_events_are_read_as_they_are() -> None:
    sent = [message("1", weight=0.0), message("2", kind=EventKind.CLICK, recommendation_id="r")]
    assert read_events(users_pb2.WriteEventsRequest(events=sent), NOW) == [
        event("1", weight=0.0),
        event("2", kind=EventKind.CLICK, recommendation_id="r"),
    ]
    longest = message("é" * 32, user_id="u" * 512, item_id="i" * 512, recommendation_id="r" * 64)
    tomorrow = message("3", timestamp_seconds=NOW + 86_400)
    assert len(read_events(users_pb2.WriteEventsRequest(events=[longest, tomorrow]), NOW)) == 2


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"user_id": ""}, "user_id"),
        ({"user_id": "é" * 257}, "user_id"),
        ({"event_id": ""}, "event_id"),
        ({"event_id": "x" * 65}, "event_id"),
        ({"item_id": ""}, "item_id"),
        ({"item_id": "x" * 513}, "item_id"),
        ({"recommendation_id": "x" * 65}, "recommendation_id"),
        ({"kind": 0}, "kind"),
        ({"kind": 99}, "kind"),
        ({"timestamp_seconds": 0}, "timestamp_seconds"),
        ({"timestamp_seconds": 1_700_000_000_000}, "timestamp_seconds"),
        ({"timestamp_seconds": NOW + 86_401}, "timestamp_seconds"),
        ({"weight": -1.0}, "weight"),
        ({"weight": float("nan")}, "weight"),
        ({"weight": 1.0, "kind": EventKind.IMPRESSION}, "weight"),
    ],
)
def test_what_is_wrong_with_an_event_is_named(changes: dict[str, object], field: str) -> None:
    assert violations(message(), message(**changes)) == [f"events[1].{field}"]  # type: ignore[arg-type]


def test_no_events_and_too_many_are_refused_unread() -> None:
    assert violations() == ["events"]
    assert violations(*[users_pb2.Event()] * (MAX_WRITTEN_EVENTS + 1)) == ["events"]
    assert len(violations(*[users_pb2.Event()] * MAX_WRITTEN_EVENTS)) == MAX_VIOLATIONS


def test_the_largest_request_is_within_the_limit_of_framing() -> None:
    largest = message(
        "e" * 64,
        user_id="u" * 512,
        item_id="i" * 512,
        timestamp_seconds=-1,
        weight=1.0,
        recommendation_id="r" * 64,
    )
    request = users_pb2.WriteEventsRequest(events=[largest] * MAX_WRITTEN_EVENTS)
    data = request.SerializeToString()
    assert len(data) < GatewaySettings().max_request_bytes
    framing = FRAMING_BYTES_PER_EVENT * MAX_WRITTEN_EVENTS
    assert not has_more_framing(request.DESCRIPTOR, data, framing)
    assert GatewaySettings(max_history_items=1, max_excluded_items=1).max_framing_bytes >= framing
    # A request of many empty events is refused before it is parsed.
    assert has_more_framing(request.DESCRIPTOR, b"\x0a\x00" * 500_000, GatewaySettings().max_framing_bytes)
