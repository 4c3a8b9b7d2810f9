"""Serves the explorer until it is stopped."""

import socket

import uvicorn
from starlette.types import ASGIApp

from winnow.explorer.app import make_app
from winnow.explorer.connections import connection_class
from winnow.explorer.settings import ExplorerSettings

# People look at it, a few at a time: more is a mistake or worse.
MAX_CONNECTIONS = 64
# A page makes so many calls one after the other, those for parts of a long history among them; a browser may be slow.
PAGE_CALLS, BROWSER_SECONDS = 12, 10.0


def bind(settings: ExplorerSettings) -> socket.socket:
    """Listen, so that the address is known and good before serving. Raises OSError where it cannot be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    bound = socket.socket(family)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((settings.host.strip("[]"), settings.port))
        bound.listen()  # a browser that is quick waits instead of being refused
    except OSError:
        bound.close()
        raise
    return bound


def address_of(bound: socket.socket) -> str:
    """Return what to type into a browser."""
    host, port, *_ = bound.getsockname()
    name = {"0.0.0.0": "localhost", "::": "localhost"}.get(host, host)  # noqa: S104 - what it is reached by
    return f"http://{f'[{name}]' if ':' in name else name}:{port}/"


async def serve(settings: ExplorerSettings, bound: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM. Raises ValueError where a setting makes no sense."""
    patience_seconds = PAGE_CALLS * settings.timeout_seconds + BROWSER_SECONDS
    async with make_app(settings) as app:
        await make_server(app, patience_seconds).serve(sockets=[bound])


def make_server(app: ASGIApp, patience_seconds: float) -> uvicorn.Server:
    """Return a server that gives up a connection on which no answer was completed for so long."""
    config = uvicorn.Config(
        app,
        http=connection_class(patience_seconds),
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=2,
        lifespan="off",
    )
    return uvicorn.Server(config)
