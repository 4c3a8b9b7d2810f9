"""The watches that a page is about: those of a user, and those that were picked."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from winnow.client import EventKind, RecommendationRequest, Watch
from winnow.explorer.failures import Failure
from winnow.explorer.gateways import Gateway
from winnow.explorer.inputs import LOG, MAX_WATCHES, Inputs
from winnow.explorer.settings import UserLog

# A request has at most 1,000 watches by the gateway's default. Those that are picked come on top.
MAX_LOG_WATCHES = 1_000 - MAX_WATCHES


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Watches, oldest first, and how requests name them."""

    of_user: tuple[Watch, ...] = ()
    picked: tuple[Watch, ...] = ()
    stored_user: str | None = None
    """The user's watches are stored: requests name the user and send only what was picked."""
    failure: Failure | None = None
    """Why the watches of the user are missing."""

    @property
    def watches(self) -> tuple[Watch, ...]:
        """All of them, oldest first."""
        return self.of_user + self.picked

    @property
    def item_ids(self) -> list[str]:
        """Of all watches, oldest first."""
        return [watch.item_id for watch in self.watches]

    def request(self, inputs: Inputs) -> RecommendationRequest:
        """Return the request that the page shows the answer to."""
        return RecommendationRequest(
            history=self.picked if self.stored_user else self.watches,
            user_id=self.stored_user,
            count=inputs.item_count,
            filter=inputs.filter,
            caps=inputs.cap_values,
            diversity=inputs.diversity_value,
        )


async def read_history(inputs: Inputs, gateway: Gateway, user_log: UserLog | None) -> History:
    """Find the watches of the user, in the gateway's store or in the log."""
    picked = History(picked=tuple(map(Watch, inputs.watches)))
    if not inputs.user:
        return picked
    if inputs.source == LOG:
        if user_log is None:
            return replace(picked, failure=_missing("The explorer was started without a log: see --interactions."))
        watches = await asyncio.to_thread(user_log.watches, inputs.user)
        if watches is None:
            return replace(picked, failure=_missing(f"{user_log.name} has no user “{inputs.user}”."))
        return replace(picked, of_user=tuple(watches[-MAX_LOG_WATCHES:]))
    events = await gateway.attempt(gateway.client.history(inputs.user))
    if isinstance(events, Failure):
        return replace(picked, failure=events)
    stored = tuple(Watch(event.item_id, event.weight, event.time) for event in events if event.kind is EventKind.WATCH)
    if not events:
        return replace(picked, failure=_missing(f"The gateway's store has no events of user “{inputs.user}”."))
    return replace(picked, of_user=stored, stored_user=inputs.user)


def _missing(text: str) -> Failure:
    return Failure(heading="No such user", text=text, http_status=404)


def shown_time(watch: Watch) -> str:
    """Return the day of a watch, or nothing where it is unknown; the seconds where a calendar has no such year."""
    if watch.time is None:
        return ""
    try:
        time = watch.time if isinstance(watch.time, datetime) else datetime.fromtimestamp(watch.time, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{watch.time:.0f}"
    return f"{time:%Y-%m-%d}"


def latest_first(watches: Sequence[Watch]) -> list[tuple[int, Watch]]:
    """Return the watches with their positions, the latest first."""
    return list(reversed(list(enumerate(watches))))
