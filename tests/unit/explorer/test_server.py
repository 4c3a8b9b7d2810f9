"""Connections that come to nothing do not keep people out."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from winnow.explorer.app import make_app
from winnow.explorer.server import MAX_CONNECTIONS, bind, make_server
from winnow.explorer.settings import ExplorerSettings

REQUEST = b"GET /static/icon.svg HTTP/1.1\r\nHost: localhost\r\n"


@contextlib.asynccontextmanager
async def served(settings: ExplorerSettings, patience_seconds: float) -> AsyncIterator[int]:
    """Serve on a free port."""
    with bind(settings) as bound:
        async with make_app(settings) as app:
            server = make_server(app, patience_seconds)
            serving = asyncio.create_task(server.serve(sockets=[bound]))
            try:
                yield int(bound.getsockname()[1])
            finally:
                server.should_exit = True
                await serving


async def answer(port: int, request: bytes) -> bytes:
    """Send, and return what comes until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    found = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while part := await reader.read(65_536):
            found += part
    writer.close()
    return bytes(found)


def test_a_connection_without_a_whole_request_ends_and_others_get_in() -> None:
    settings = ExplorerSettings(targets=("127.0.0.1:1",), port=0)

    async def run() -> None:
        async with served(settings, patience_seconds=0.5) as port:
            idle = await asyncio.gather(*(answer(port, REQUEST) for _ in range(MAX_CONNECTIONS)))
            assert idle == [b""] * MAX_CONNECTIONS
            assert (await answer(port, REQUEST + b"Connection: close\r\n\r\n")).startswith(b"HTTP/1.1 200")

    asyncio.run(run())


def test_a_second_request_that_never_ends_ends_too() -> None:
    settings = ExplorerSettings(targets=("127.0.0.1:1",), port=0)

    async def run() -> None:
        async with served(settings, patience_seconds=0.5) as port:
            assert (await answer(port, REQUEST + b"\r\n" + REQUEST)).count(b"HTTP/1.1 200") == 1

    asyncio.run(run())
