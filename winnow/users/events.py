"""What users did, as events."""

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import NamedTuple

MAX_USER_ID_BYTES = 512
MAX_EVENT_ID_BYTES = 64
"""The longest event id and the longest recommendation id, in bytes of UTF-8."""


class EventKind(IntEnum):
    """What a user did with an item. Values are those of winnow.v1.EventKind, and are stored."""

    WATCH = 1
    CLICK = 2
    IMPRESSION = 3
    DISMISSAL = 4


ALL_KINDS = frozenset(EventKind)
CLICKS = frozenset({EventKind.CLICK, EventKind.WATCH})
"""What shows that the user wanted an item that was shown: who watches has clicked."""


class Event(NamedTuple):
    """One thing that a user did, or was shown."""

    user_id: str
    event_id: str
    """Unique for the user: a second event with the same id is the same event, whatever else it says."""
    kind: EventKind
    item_id: str
    timestamp_seconds: int
    """Since 1970."""
    weight: float | None = None
    """How much a watch counts; None where that is unknown."""
    recommendation_id: str = ""
    """The answer that the item was in; empty where that is unknown."""

    @property
    def position(self) -> tuple[int, str]:
        """Where the event is among those of its user: by time, then by event id."""
        return self.timestamp_seconds, self.event_id


class UserHistory(NamedTuple):
    """What recommendations need of one user: the watches, oldest first, one element each in the first three lists."""

    item_ids: Sequence[str]
    weights: Sequence[float | None]
    """To 15 digits."""
    times: Sequence[int]
    """Seconds since 1970."""
    dismissed_item_ids: Sequence[str] = ()
    """In any order."""

    @classmethod
    def of(cls, events: Sequence[Event]) -> "UserHistory":
        """Return what the events of one user, in order, say."""
        watches = [event for event in events if event.kind is EventKind.WATCH]
        return cls(
            [watch.item_id for watch in watches],
            [watch.weight for watch in watches],
            [watch.timestamp_seconds for watch in watches],
            [event.item_id for event in events if event.kind is EventKind.DISMISSAL],
        )


NO_HISTORY = UserHistory((), (), ())


def unclicked_item_ids(events: Iterable[Event]) -> list[str]:
    """Return the items of the impressions without a click, an item as often as it was shown, oldest first.

    `events` are those of one user, in order. A click or a watch that names a recommendation belongs to the impressions
    of its item in that recommendation; one that names none belongs to all earlier impressions of its item.
    """
    waiting: dict[str, list[Event]] = {}
    answered: set[tuple[str, str]] = set()
    for event in events:
        if event.kind is EventKind.IMPRESSION:
            waiting.setdefault(event.item_id, []).append(event)
        elif event.kind not in CLICKS:
            continue
        elif event.recommendation_id:
            answered.add((event.item_id, event.recommendation_id))
        else:
            waiting.pop(event.item_id, None)
    unclicked = [
        event
        for impressions in waiting.values()
        for event in impressions
        if (event.item_id, event.recommendation_id) not in answered
    ]
    return [event.item_id for event in sorted(unclicked, key=lambda event: event.position)]
