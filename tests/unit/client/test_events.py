"""Events as the client makes, sends and reads them."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from winnow.client import Event, EventKind, WinnowClient
from winnow.client.events import events_of, write_requests
from winnow.v1 import users_pb2


def test_an_event_has_an_id_and_a_time_of_its_own() -> None:
    events = [Event(user_id="ann", item_id="x") for _ in range(1000)]
    assert len({event.event_id for event in events}) == 1000
    # Ids sort by time, to a quarter of a microsecond.
    assert events[0].event_id < events[-1].event_id
    [request] = write_requests(events[:1])
    assert abs(request.events[0].timestamp_seconds - datetime.now(UTC).timestamp()) < 60


def test_every_field_is_sent_and_read_back() -> None:
    event = Event(
        user_id="ann",
        item_id="x",
        kind=EventKind.WATCH,
        time=datetime(2026, 1, 1, tzinfo=UTC),
        weight=2.5,
        recommendation_id="r",
        event_id="e",
    )
    [request] = write_requests([event])
    assert list(request.events) == [
        users_pb2.Event(
            user_id="ann",
            event_id="e",
            kind=users_pb2.EVENT_KIND_WATCH,
            item_id="x",
            timestamp_seconds=1_767_225_600,
            weight=2.5,
            recommendation_id="r",
        )
    ]
    page = users_pb2.GetHistoryResponse(
        events=[*request.events, users_pb2.Event(kind=users_pb2.EVENT_KIND_UNSPECIFIED)]
    )
    assert events_of(page) == [replace(event, time=1_767_225_600)]


def test_many_events_take_several_calls() -> None:
    events = [Event(user_id="ann", item_id=str(at)) for at in range(2001)]
    assert [len(request.events) for request in write_requests(iter(events))] == [1000, 1000, 1]
    assert write_requests([]) == []


@pytest.mark.parametrize(
    ("event", "wrong"),
    [
        ("x", r"events\[1\] is of type str: an Event is needed"),
        (Event(user_id=7, item_id="x"), r"events\[1\].user_id is of type int: str is needed"),  # type: ignore[arg-type]
        (Event(user_id="a", item_id="x", kind="EATEN"), r"events\[1\].kind is 'EATEN'"),  # type: ignore[arg-type]
        (Event(user_id="a", item_id="x", time=datetime(2026, 1, 1)), r"events\[1\].time .* without a time zone"),
    ],
)
def test_arguments_of_a_wrong_kind_are_named(event: Any, wrong: str) -> None:
    with pytest.raises((TypeError, ValueError), match=wrong):
        write_requests([Event(user_id="ann", item_id="x"), event])


def test_a_user_id_has_to_say_who() -> None:
    with WinnowClient("localhost:1") as client:
        with pytest.raises(ValueError, match="user_id is empty"):
            client.recommend(user_id="")
        with pytest.raises(TypeError, match="user_id is of type int"):
            client.retrieve(user_id=7)  # type: ignore[arg-type]
