"""What one user was shown, and what came of it: the events of the user beside the answers of the log."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from winnow.answer_log.records import AnswerRecord
from winnow.history import LONGEST_WATCH_SECONDS
from winnow.users.events import CLICKS, Event, EventKind

Shown = Literal["answers", "events"]
"""What counts as shown: all items of each answer, or only what impression events name."""


@dataclass(slots=True, kw_only=True)
class Impression:
    """An item that was shown to the user."""

    item_id: str
    timestamp: int
    """In seconds since 1970: of the impression event, else of the request."""
    recommendation_id: str = ""
    place: int | None = None
    """In the answer, from 1. None where the answer is not in the log, as are the next two."""
    score: float | None = None
    answer: AnswerRecord | None = None
    clicked: bool = False
    watch_seconds: float = 0.0
    """The weight of the watch, 1 where that is unknown; 0 without a watch."""


class Joined(NamedTuple):
    """The impressions of a user, and the recommendation ids of events that found none."""

    impressions: list[Impression]
    unmatched_ids: list[str]


def join(events: Sequence[Event], answers: Sequence[AnswerRecord], shown: Shown) -> Joined:
    """Join the events of one user, in order, with the answers to that user.

    Impression events are impressions. With `shown` "answers", so are all items of each answer that no impression event
    cites. A click or a watch that cites a recommendation belongs to its item there, and to nothing else; one that
    cites none belongs to the latest impression of its item up to then.
    """
    answer_of = {answer.recommendation_id: answer for answer in answers}
    impressions = _of_events(events, answer_of)
    if shown == "answers":
        cited = {event.recommendation_id for event in events if event.kind is EventKind.IMPRESSION}
        impressions += [
            impression for answer in answers if answer.recommendation_id not in cited for impression in _all_of(answer)
        ]
    impressions.sort(key=lambda impression: impression.timestamp)
    cited_item = {(one.item_id, one.recommendation_id): one for one in impressions if one.recommendation_id}
    of_item: dict[str, list[Impression]] = {}
    for impression in impressions:
        of_item.setdefault(impression.item_id, []).append(impression)
    unmatched: list[str] = []
    for event in events:
        if event.kind not in CLICKS:
            continue
        found: Impression | None
        if event.recommendation_id:
            found = cited_item.get((event.item_id, event.recommendation_id))
            if found is None:
                unmatched.append(event.recommendation_id)
        else:
            earlier = (one for one in of_item.get(event.item_id, ()) if one.timestamp <= event.timestamp_seconds)
            found = max(earlier, key=lambda one: one.timestamp, default=None)
        if found is not None:
            found.clicked = True
            if event.kind is EventKind.WATCH:
                seconds = 1.0 if event.weight is None else min(event.weight, LONGEST_WATCH_SECONDS)
                found.watch_seconds = max(found.watch_seconds, seconds)
    return Joined(impressions, unmatched)


def _of_events(events: Sequence[Event], answer_of: dict[str, AnswerRecord]) -> list[Impression]:
    """The impression events; of those that repeat an item of a recommendation, the first one."""
    found: list[Impression] = []
    seen: set[tuple[str, str]] = set()
    for event in events:
        cited = event.item_id, event.recommendation_id
        if event.kind is not EventKind.IMPRESSION or cited in seen:
            continue
        if event.recommendation_id:
            seen.add(cited)
        impression = Impression(
            item_id=event.item_id, timestamp=event.timestamp_seconds, recommendation_id=event.recommendation_id
        )
        answer = answer_of.get(event.recommendation_id)
        if answer is not None:
            for answered in _all_of(answer):
                if answered.item_id == event.item_id:
                    impression.place, impression.score, impression.answer = answered.place, answered.score, answer
        found.append(impression)
    return found


def _all_of(answer: AnswerRecord) -> list[Impression]:
    return [
        Impression(
            item_id=item.item_id,
            timestamp=answer.timestamp,
            recommendation_id=answer.recommendation_id,
            place=place,
            score=item.score,
            answer=answer,
        )
        for place, item in enumerate(answer.items, start=1)
    ]
