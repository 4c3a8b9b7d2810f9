"""Where events are kept: one protocol for every store."""

from collections.abc import AsyncIterator, Collection, Sequence
from typing import Protocol

from winnow.users.events import Event, UserHistory


class StoreError(Exception):
    """The store gave no answer. The text names no user and no item."""


class HistoryStore(Protocol):
    """Keeps the latest events of each user: of each kind, so many as its limit says.

    Whatever order events arrive in, and however often, the same ones are kept. A user to whom nothing was appended for
    the time of retention is removed soon after. Every method but `close` raises StoreError where the store cannot be
    used.
    """

    async def open(self) -> None:
        """Make the store ready. Raises ValueError where that can never succeed: a wrong address, another format."""

    async def append(self, events: Sequence[Event]) -> None:
        """Keep all of these events or, if it raises, none of them. Events that the store has are left as they are.

        When it returns, the events survive the end of this process.
        """

    async def read(self, user_ids: Sequence[str], kinds: Collection[int]) -> list[list[Event]]:
        """Return the events of these kinds of each user, by time and then by event id, in one round trip."""

    async def histories(self, user_ids: Sequence[str]) -> list[UserHistory]:
        """Return the history of each user in one round trip: what is made of `read`, and cheaper."""

    async def delete(self, user_id: str) -> int:
        """Remove all events of a user and return how many there were."""

    def export(self) -> AsyncIterator[Sequence[Event]]:
        """Return all events, some at a time, those of each user together. Each part is as of when it is read."""

    async def close(self) -> None:
        """Finish what is under way."""
