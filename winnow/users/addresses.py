"""From the address of a store, as an operator writes it, to the store."""

from pathlib import Path

from winnow.distribution import install_command
from winnow.users.sqlite_store import SqliteStore
from winnow.users.store import HistoryStore


def store_at(address: str, max_events: int, retention_seconds: float = 0) -> HistoryStore:
    """Return the store, not opened: `sqlite:///` and a path, the path alone, or a URL of a Redis or Valkey server.

    It keeps `max_events` of each kind for each user, and users until nothing was written for `retention_seconds`; 0
    keeps them for ever. Raises ValueError for an address that no store has.
    """
    scheme, found, rest = address.partition("://")
    if not found:
        return SqliteStore(Path(address), max_events, retention_seconds)
    if scheme == "sqlite" and len(rest) > 1 and rest.startswith("/"):
        # As in SQLAlchemy: three slashes and a relative path, or four and an absolute one.
        return SqliteStore(Path(rest[1:]), max_events, retention_seconds)
    if scheme in ("redis", "rediss", "unix"):
        # Optional: only the extra `users` has the client.
        try:
            from winnow.users.redis_store import RedisStore
        except ImportError as error:
            raise ValueError(f"users store: the extra is not installed: {install_command('users')}") from error
        return RedisStore(address, max_events, retention_seconds)
    # The rest may hold a password.
    raise ValueError(f"users store: {scheme}:// is not known; a path, sqlite:///, redis:// or rediss:// is needed")
