"""Events for tests, and a plain dictionary that a store has to agree with."""

from collections.abc import Collection, Iterable

from hypothesis import strategies as st

from winnow.users.events import Event, EventKind


def event(event_id: str = "1", user_id: str = "ann", kind: EventKind = EventKind.WATCH, **changes: object) -> Event:
    given = {"item_id": f"item {event_id}", "timestamp_seconds": 1_700_000_000, **changes}
    return Event(user_id=user_id, event_id=event_id, kind=kind, **given)  # type: ignore[arg-type]


# Few users, ids and times, so that they meet; any text may be an id.
_TEXTS = st.one_of(st.sampled_from(["a", "b", "c"]), st.text(st.characters(codec="utf-8"), min_size=1, max_size=5))
EVENTS = st.builds(
    Event,
    user_id=_TEXTS,
    event_id=_TEXTS,
    kind=st.sampled_from(EventKind),
    item_id=_TEXTS,
    timestamp_seconds=st.one_of(st.integers(-3, 3), st.integers(-(10**11), 10**11)),
    weight=st.one_of(st.none(), st.floats(0, 2.0**100, width=32)),
    recommendation_id=st.one_of(st.just(""), _TEXTS),
)


class PlainStore:
    """What a store should hold: of each user and kind the latest `max_events`, an event id once."""

    def __init__(self, max_events: int) -> None:
        self._max_events = max_events
        self._events: dict[str, dict[str, Event]] = {}

    def append(self, events: Iterable[Event]) -> None:
        users = set()
        for new in events:
            users.add(new.user_id)
            self._events.setdefault(new.user_id, {}).setdefault(new.event_id, new)
        for user_id in users:
            of_user = self._events[user_id]
            for kind in EventKind:
                of_kind = [one for one in of_user.values() if one.kind == kind]
                for old in sorted(of_kind, key=lambda one: one.position)[: -self._max_events]:
                    del of_user[old.event_id]

    def read(self, user_ids: Iterable[str], kinds: Collection[int]) -> list[list[Event]]:
        return [
            sorted(
                (one for one in self._events.get(user_id, {}).values() if one.kind in kinds),
                key=lambda one: one.position,
            )
            for user_id in user_ids
        ]

    def delete(self, user_id: str) -> int:
        return len(self._events.pop(user_id, {}))

    @property
    def user_ids(self) -> list[str]:
        return sorted(user_id for user_id, events in self._events.items() if events)
