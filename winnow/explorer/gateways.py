"""The gateways that the explorer asks, each by its client."""

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

from winnow.client import AsyncWinnowClient, Item
from winnow.explorer.failures import Failure, attempt
from winnow.explorer.settings import ExplorerSettings

Answer = TypeVar("Answer")


@dataclass(frozen=True, kw_only=True, eq=False)
class Gateway:
    """A gateway and how long its answers may take."""

    target: str
    client: AsyncWinnowClient
    timeout_seconds: float

    async def attempt(self, call: Awaitable[Answer]) -> Answer | Failure:
        """Wait for a call of the client; see `attempt`."""
        return await attempt(call, self.target, self.timeout_seconds)

    async def titles(self, item_ids: list[str]) -> "Titles":
        """Look up how items are called. Without an answer they are called by their ids."""
        found = await self.attempt(self.client.items(item_ids))
        return Titles({}) if isinstance(found, Failure) else Titles(dict(found.by_id))


@dataclass(frozen=True, slots=True)
class Titles:
    """What items are called."""

    by_id: dict[str, Item]

    def __getitem__(self, item_id: str) -> str:
        """Return the title, or the id where there is none."""
        return self.by_id[item_id].title if item_id in self.by_id else item_id

    def knows(self, item_id: str) -> bool:
        """Whether the release has the item. Everything is known where the look-up failed."""
        return item_id in self.by_id or not self.by_id


def connect(settings: ExplorerSettings, target: str) -> AsyncWinnowClient:
    """Make a client. Raises ValueError where the TLS file cannot be read."""
    return AsyncWinnowClient(
        target, timeout_seconds=settings.timeout_seconds, token=settings.token, ca_file=settings.ca_file
    )
