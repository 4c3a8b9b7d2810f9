"""Connections of browsers, and of whoever opens them to keep others out."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol


def connection_class(patience_seconds: float) -> type[H11Protocol]:
    """Return a protocol that ends a connection on which no answer was completed for so long.

    uvicorn has a limit only for the time after an answer: a connection without a request, or with a browser that does
    not read, would count against the number of connections for ever.
    """

    class Connection(H11Protocol):
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)  # type: ignore[arg-type]
            self._wait_again()

        def on_response_complete(self) -> None:
            self._wait_again()
            super().on_response_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            if self._timer is not None:
                self._timer.cancel()
            super().connection_lost(exc)

        def _wait_again(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self.loop.call_later(patience_seconds, self.transport.abort)

    return Connection
