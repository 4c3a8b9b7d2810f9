"""Bearer tokens at the edge: who has none is refused before the message is read."""

import hmac
import time
from codecs import BOM_UTF8
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import grpc
import structlog

from winnow.rpc.errors import PermissionDeniedError, ServiceError
from winnow.serving.tls import Fingerprint

_log = structlog.get_logger(__name__)

# How often the file is looked at: a withdrawn token works at most this long.
LOOK_SECONDS = 1.0
PREFIX = "Bearer "


class Permission(StrEnum):
    """What a token may be limited to."""

    RECOMMEND = "recommend"
    """Every call but those below."""
    WRITE_EVENTS = "write-events"
    READ_HISTORIES = "read-histories"
    """GetHistory, and ExplainItem, which names the watches of the user."""
    DELETE_USERS = "delete-users"


_ALL = frozenset(Permission)
# By the method's name; RECOMMEND for the others.
_NEEDED = {
    "/winnow.v1.UserService/WriteEvents": Permission.WRITE_EVENTS,
    "/winnow.v1.UserService/GetHistory": Permission.READ_HISTORIES,
    "/winnow.v1.RecommendationService/ExplainItem": Permission.READ_HISTORIES,
    "/winnow.v1.UserService/DeleteUser": Permission.DELETE_USERS,
}


class _Token(NamedTuple):
    value: bytes
    permissions: frozenset[Permission]


class UnauthenticatedError(ServiceError):
    """The call has no valid token."""

    code = grpc.StatusCode.UNAUTHENTICATED


class TokenCheck:
    """Compares the `authorization` metadata with the tokens of a file, in constant time, and follows the file.

    A file that is emptied withdraws all tokens; one that cannot be read leaves those in use as they are.
    """

    def __init__(self, path: Path) -> None:
        """Raise ValueError where the file cannot be read, holds no token, or names a permission that there is not."""
        self._path = path
        try:
            self._state = Fingerprint.of(path)
            self._tokens = _read(path)
        except OSError as error:
            raise ValueError(f"tokens file {path} cannot be read ({error.strerror})") from error
        if not self._tokens:
            raise ValueError(f"tokens file {path} holds no token")
        self._looked_at = time.monotonic()

    def refusal(self, method: str, metadata: Sequence[tuple[str, str | bytes]]) -> ServiceError | None:
        """See Gatekeeper.refusal."""
        self._follow()
        given = next((value for key, value in metadata if key == "authorization"), None)
        if not isinstance(given, str) or not given.startswith(PREFIX):
            return UnauthenticatedError("a bearer token is needed in the authorization metadata")
        token = given.removeprefix(PREFIX).encode()
        # All are compared, whichever matches: the time taken tells nothing about them.
        matching = [known.permissions for known in self._tokens if hmac.compare_digest(token, known.value)]
        if not matching:
            return UnauthenticatedError("the bearer token is not valid")
        needed = _NEEDED.get(method, Permission.RECOMMEND)
        if not any(needed in permissions for permissions in matching):
            return PermissionDeniedError(f"the bearer token does not permit this call: it lacks {needed}")
        return None

    def _follow(self) -> None:
        now = time.monotonic()
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        try:
            state = Fingerprint.of(self._path)
            if state == self._state:
                return
            self._tokens, self._state = _read(self._path), state
        except OSError as error:
            _log.warning("tokens cannot be read: those in use go on", reason=error.strerror)
            return
        except ValueError as error:
            # Not again until the file changes.
            self._state = state
            _log.error("tokens cannot be read: those in use go on", reason=str(error))
            return
        if self._tokens:
            _log.info("tokens replaced", count=len(self._tokens))
        else:
            _log.error("the tokens file holds no token: every call is refused")


def _read(path: Path) -> list[_Token]:
    """A line is a token and, after it, its permissions: all of them where none is named."""
    tokens = []
    for number, line in enumerate(path.read_bytes().removeprefix(BOM_UTF8).splitlines(), start=1):
        value, *names = line.split() or [b""]
        # Not quoted: it may be a part of a token.
        if not {name.decode(errors="replace") for name in names} <= _ALL:
            known = ", ".join(Permission)
            raise ValueError(f"tokens file {path}, line {number}: after the token, only these may be named: {known}")
        if value:
            tokens.append(_Token(value, frozenset(Permission(name.decode()) for name in names) or _ALL))
    return tokens
