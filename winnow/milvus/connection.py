"""How Milvus is reached: its address and secrets, for the client that fills it and for the calls that ask it."""

import base64
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import grpc
from pymilvus import MilvusClient, MilvusException

from winnow.rpc.credentials import channel_credentials

# The largest answer: 256 queries with 16,384 ids of 8 bytes and scores of 4 bytes each take 48 MiB.
MAX_ANSWER_BYTES = 128 * 2**20

# What Milvus works on for as long as the catalogue is large. All else is done in seconds.
SLOW_CALLS = frozenset({"create_index", "flush", "load_collection"})
QUESTION_SECONDS = 300.0


class EngineError(ValueError):
    """Milvus cannot be reached, or refuses what is asked. The message says what was tried."""


@dataclass(frozen=True, kw_only=True)
class MilvusAddress:
    """Where Milvus is, and what it asks of its callers."""

    uri: str
    """`http://host:port`, or `https://host:port` for TLS."""
    database: str = "default"
    token_file: Path | None = None
    """Holds `user:password` or an API key; None where Milvus asks for neither."""
    ca_file: Path | None = None
    """PEM certificates of the authorities that sign Milvus's certificate; None for those of the system."""

    def __post_init__(self) -> None:
        """Raise ValueError for another form of address."""
        parts = urlsplit(self.uri)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port is None or parts.path.strip("/"):
            raise ValueError(f"{self.uri!r} is no address of Milvus, such as http://milvus:19530")
        if parts.username is not None or parts.password is not None:
            raise ValueError("the address of Milvus holds a password: put user:password into a file, the token's")
        if self.ca_file is not None and parts.scheme != "https":
            raise ValueError(f"{self.uri} has no TLS, and a file of authorities is given: use https://")

    @property
    def target(self) -> str:
        """Host and port."""
        return urlsplit(self.uri).netloc

    def token(self) -> str:
        """The secret; empty where there is none. Raises ValueError where the file cannot be read."""
        if self.token_file is None:
            return ""
        try:
            return self.token_file.read_text().strip()
        except OSError as error:
            raise ValueError(f"the token of Milvus cannot be read: {error}") from error

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What proves to Milvus who calls."""
        token = self.token()
        return (("authorization", base64.b64encode(token.encode()).decode()),) if token else ()

    def channel(self) -> grpc.aio.Channel:
        """A channel of the running event loop."""
        options = [("grpc.max_receive_message_length", MAX_ANSWER_BYTES)]
        if not self.uri.startswith("https"):
            return grpc.aio.insecure_channel(self.target, options=options)
        credentials = channel_credentials(self.ca_file, None, None) or grpc.ssl_channel_credentials()
        return grpc.aio.secure_channel(self.target, credentials, options=options)

    @contextmanager
    def client(self, timeout_seconds: float) -> Iterator[MilvusClient]:
        """Yield Milvus's own client, which blocks, but for no longer than that in a call.

        What fails in it within the block is raised as EngineError.
        """
        # It logs each failure with a traceback, and raises it too.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        secure: dict[str, Any] = {"secure": True} if self.uri.startswith("https") else {}
        if self.ca_file is not None:
            secure["server_pem_path"] = str(self.ca_file)
        try:
            client = MilvusClient(
                self.uri,
                token=self.token(),
                db_name="" if self.database == "default" else self.database,
                timeout=timeout_seconds,
                dedicated=True,
                **secure,
            )
            try:
                yield cast("MilvusClient", _Punctual(client, timeout_seconds))
            finally:
                client.close()
        except (MilvusException, grpc.RpcError) as error:
            raise EngineError(f"Milvus at {self.uri}: {_reason(error)[:300]}") from error


def _reason(error: Exception) -> str:
    """What Milvus says, in one line, which is not empty."""
    if isinstance(error, grpc.Call):
        return f"{error.code().name}: {error.details()}"
    message = str(error.message if isinstance(error, MilvusException) else error)
    return next(iter(message.splitlines()), "") or type(error).__name__


class _Punctual:
    """Milvus's client with a timeout for every call: its own is for connecting alone.

    Until the timeout it repeats calls that do not reach Milvus.
    """

    def __init__(self, client: MilvusClient, timeout_seconds: float) -> None:
        self._client = client
        self._timeout_seconds = timeout_seconds

    def __getattr__(self, name: str) -> Any:
        longest = math.inf if name in SLOW_CALLS else QUESTION_SECONDS
        return partial(getattr(self._client, name), timeout=min(self._timeout_seconds, longest))
