"""Which impressions count as shown without a click."""

from tests.unit.users.events import event
from winnow.users.events import Event, EventKind, unclicked_item_ids


def shown(item_id: str, at: int, recommendation_id: str = "") -> Event:
    return event(
        f"{at} shown",
        kind=EventKind.IMPRESSION,
        item_id=item_id,
        timestamp_seconds=at,
        recommendation_id=recommendation_id,
    )


def clicked(item_id: str, at: int, recommendation_id: str = "", kind: EventKind = EventKind.CLICK) -> Event:
    return event(f"{at} clicked", kind=kind, item_id=item_id, timestamp_seconds=at, recommendation_id=recommendation_id)


def test_an_item_counts_as_often_as_it_was_shown() -> None:
    assert unclicked_item_ids([]) == []
    assert unclicked_item_ids([shown("a", 1), shown("b", 2), shown("a", 3)]) == ["a", "b", "a"]


def test_a_click_or_a_watch_answers_all_earlier_impressions_of_its_item() -> None:
    for kind in (EventKind.CLICK, EventKind.WATCH):
        events = [shown("a", 1), shown("b", 2), shown("a", 3), clicked("a", 4, kind=kind), shown("a", 5)]
        assert unclicked_item_ids(events) == ["b", "a"]


def test_a_click_that_names_a_recommendation_answers_the_impressions_in_it() -> None:
    events = [shown("a", 1, "r1"), shown("a", 2, "r2"), shown("b", 3, "r2"), clicked("a", 4, "r2")]
    assert unclicked_item_ids(events) == ["a", "b"]
    # The clock of whoever sends impressions may be late.
    assert unclicked_item_ids([clicked("a", 1, "r1"), shown("a", 2, "r1")]) == []


def test_a_dismissal_is_no_click() -> None:
    events = [shown("a", 1, "r1"), clicked("a", 2, "r1", kind=EventKind.DISMISSAL), shown("b", 3)]
    assert unclicked_item_ids([*events, clicked("b", 4, kind=EventKind.DISMISSAL)]) == ["a", "b"]
