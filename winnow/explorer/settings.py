"""What the explorer is told when it starts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from winnow.client import Watch

SERVICES = ("gateway", "candidate_service", "ranking_service")


class UserLog(Protocol):
    """An interaction log whose users can be taken."""

    @property
    def name(self) -> str:
        """What people call it: the name of the file."""

    @property
    def some_users(self) -> Sequence[str]:
        """A few users to begin with."""

    def watches(self, user_id: str) -> Sequence[Watch] | None:
        """Return the latest watches of a user, oldest first, or None where the log has no such user."""


@dataclass(frozen=True, kw_only=True)
class ExplorerSettings:
    """Where the explorer listens and whom it asks."""

    targets: tuple[str, ...]
    """Gateways: one, or two whose answers are compared."""
    host: str = "127.0.0.1"
    port: int = 8050
    allowed_hosts: tuple[str, ...] = ()
    """Further names that browsers may call it by, in the Host header."""
    timeout_seconds: float = 5.0
    """Deadline of each call."""
    stage_targets: Mapping[str, str] = field(default_factory=dict)
    """Addresses of `candidate_service` and `ranking_service`, for the page of health."""
    metrics_urls: Mapping[str, str] = field(default_factory=dict)
    """Metrics endpoints by service."""
    user_log: UserLog | None = None
    token: str | None = None
    """A bearer token for the gateways."""
    ca_file: Path | None = None
    """Turns TLS on for the gateways."""
