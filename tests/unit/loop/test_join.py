"""Events and answers of one user become impressions, by recommendation id."""

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.answer_log.records import record
from tests.unit.users.events import EVENTS, event
from winnow.answer_log.records import AnswerRecord
from winnow.loop.join import Impression, Shown, join
from winnow.users.events import Event, EventKind

ANSWER = record(100, items=["a", "b", "c"])


def reaction(item_id: str, seconds: int, cited: AnswerRecord | None = None, **changes: object) -> Event:
    given = {"event_id": f"{item_id}{seconds}", "recommendation_id": cited.recommendation_id if cited else ""}
    return event(**{**given, "item_id": item_id, "timestamp_seconds": seconds, **changes})  # type: ignore[arg-type]


def shown(item_id: str, seconds: int, cited: AnswerRecord | None = None) -> Event:
    return reaction(item_id, seconds, cited, kind=EventKind.IMPRESSION, event_id=f"shown {item_id}{seconds}")


def outcomes(events: list[Event], answers: list[AnswerRecord], mode: Shown = "answers") -> list[tuple[str, int, bool]]:
    return [(one.item_id, one.timestamp, one.clicked) for one in join(events, answers, mode).impressions]


def test_an_answer_that_is_cited_tells_what_was_watched_and_what_was_not() -> None:
    joined = join([reaction("b", 160, ANSWER, weight=42.0)], [ANSWER], "answers")
    assert [(one.item_id, one.place, one.clicked, one.watch_seconds) for one in joined.impressions] == [
        ("a", 1, False, 0.0),
        ("b", 2, True, 42.0),
        ("c", 3, False, 0.0),
    ]
    assert all((one.timestamp, one.score, one.answer) == (100, 0.5, ANSWER) for one in joined.impressions)
    assert joined.unmatched_ids == []


def test_an_answer_that_nobody_cites_was_shown_unless_only_events_count() -> None:
    assert outcomes([], [ANSWER]) == [("a", 100, False), ("b", 100, False), ("c", 100, False)]
    assert outcomes([], [ANSWER], "events") == []


def test_a_dismissal_is_no_click() -> None:
    dismissed = [
        reaction("a", 110, ANSWER, kind=EventKind.DISMISSAL),
        reaction("b", 110, kind=EventKind.DISMISSAL, event_id="by no answer"),
    ]
    assert outcomes(dismissed, [ANSWER]) == [("a", 100, False), ("b", 100, False), ("c", 100, False)]


def test_impression_events_say_which_items_of_an_answer_were_shown() -> None:
    events = [shown("a", 103, ANSWER), shown("a", 104, ANSWER), reaction("a", 110, ANSWER, kind=EventKind.CLICK)]
    for mode in ("answers", "events"):
        joined = join(events, [ANSWER], mode)
        assert joined.impressions == [
            Impression(
                item_id="a",
                timestamp=103,
                recommendation_id=ANSWER.recommendation_id,
                place=1,
                score=0.5,
                answer=ANSWER,
                clicked=True,
            )
        ]


def test_impression_events_stand_for_themselves_where_the_answer_was_not_logged() -> None:
    events = [shown("a", 103, ANSWER), shown("b", 103), reaction("a", 105, ANSWER)]
    assert outcomes(events, []) == [("a", 103, True), ("b", 103, False)]


def test_a_reaction_that_cites_nothing_belongs_to_the_latest_impression_of_its_item() -> None:
    events = [shown("a", 10), reaction("a", 15), shown("a", 20), shown("a", 30), reaction("a", 25), reaction("x", 25)]
    events.sort(key=lambda one: one.position)
    assert outcomes(events, []) == [("a", 10, True), ("a", 20, True), ("a", 30, False)]


def test_a_reaction_cites_one_recommendation_and_counts_in_no_other() -> None:
    later = record(200, items=["a"])
    joined = join([reaction("a", 210, later)], [ANSWER, later], "answers")
    assert [(one.item_id, one.timestamp, one.clicked) for one in joined.impressions] == [
        *[("a", 100, False), ("b", 100, False), ("c", 100, False)],
        ("a", 200, True),
    ]


def test_what_cites_an_unknown_answer_or_an_item_that_was_not_in_it_is_counted_and_not_joined() -> None:
    events = [reaction("a", 150, record(7)), reaction("z", 150, ANSWER)]
    joined = join(events, [ANSWER], "answers")
    assert not any(one.clicked for one in joined.impressions)
    assert joined.unmatched_ids == [record(7).recommendation_id, ANSWER.recommendation_id]


def test_a_watch_without_a_weight_counts_as_one_second_and_a_click_as_none() -> None:
    events = [reaction("a", 150, ANSWER), reaction("b", 150, ANSWER, kind=EventKind.CLICK)]
    assert [one.watch_seconds for one in join(events, [ANSWER], "answers").impressions] == [1.0, 0.0, 0.0]


@given(st.lists(EVENTS, max_size=20), st.sampled_from(["answers", "events"]))
def test_whatever_the_events_are_no_impression_is_lost_or_invented(events: list[Event], mode: Shown) -> None:
    events = sorted(events, key=lambda one: one.position)
    impressions = join(events, [], mode).impressions
    sent = [one for one in events if one.kind is EventKind.IMPRESSION]
    assert {one.item_id for one in impressions} == {one.item_id for one in sent}
    assert len(impressions) <= len(sent)
    reacted = {one.item_id for one in events if one.kind is not EventKind.IMPRESSION}
    assert {one.item_id for one in impressions if one.clicked} <= reacted
