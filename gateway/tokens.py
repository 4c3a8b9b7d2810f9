"""Bearer tokens at the edge: who has none is refused before the message is read."""

import hmac
import time
from collections.abc import Sequence
from pathlib import Path

import grpc
import structlog

from winnow.rpc.errors import ServiceError
from winnow.serving.tls import Fingerprint

_log = structlog.get_logger(__name__)

# How often the file is looked at: a withdrawn token works at most this long.
LOOK_SECONDS = 1.0
PREFIX = "Bearer "


class UnauthenticatedError(ServiceError):
    """The call has no valid token."""

    code = grpc.StatusCode.UNAUTHENTICATED


class TokenCheck:
    """Compares the `authorization` metadata with the tokens of a file, in constant time, and follows the file.

    A file that is emptied withdraws all tokens; one that cannot be read leaves those in use as they are.
    """

    def __init__(self, path: Path) -> None:
        """Raise ValueError where the file cannot be read or holds no token."""
        self._path = path
        try:
            self._state = Fingerprint.of(path)
            self._tokens = _read(path)
        except OSError as error:
            raise ValueError(f"tokens file {path} cannot be read ({error.strerror})") from error
        if not self._tokens:
            raise ValueError(f"tokens file {path} holds no token")
        self._looked_at = time.monotonic()

    def refusal(self, metadata: Sequence[tuple[str, str | bytes]]) -> ServiceError | None:
        """See Gatekeeper.refusal."""
        self._follow()
        given = next((value for key, value in metadata if key == "authorization"), None)
        if not isinstance(given, str) or not given.startswith(PREFIX):
            return UnauthenticatedError("a bearer token is needed in the authorization metadata")
        token = given.removeprefix(PREFIX).encode()
        # All are compared, whichever matches: the time taken tells nothing about them.
        if sum(hmac.compare_digest(token, known) for known in self._tokens) == 0:
            return UnauthenticatedError("the bearer token is not valid")
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
        if self._tokens:
            _log.info("tokens replaced", count=len(self._tokens))
        else:
            _log.error("the tokens file holds no token: every call is refused")


def _read(path: Path) -> list[bytes]:
    return [line.strip() for line in path.read_bytes().splitlines() if line.strip()]
