"""The explorer as an ASGI application."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from winnow.explorer.gateways import Gateway, connect
from winnow.explorer.health import HealthLook
from winnow.explorer.inputs import MAX_QUERY_BYTES, Inputs
from winnow.explorer.pages import Pages
from winnow.explorer.rendering import Renderer
from winnow.explorer.scrapes import Scraper
from winnow.explorer.settings import ExplorerSettings

# Nothing but files of the explorer itself, no inline script or style, no page of another site around it.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # The address holds user ids.
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")
ERRORS = {
    404: ("There is no such page", "The address may be mistyped."),
    405: ("The explorer only shows", "It takes no other requests than those for pages."),
    414: ("The address is too long", f"Pick fewer watches: {MAX_QUERY_BYTES:,} bytes may follow the question mark."),
    500: ("This page has failed", "That is a defect of the explorer; its log says more."),
}  # fmt: skip


@contextlib.asynccontextmanager
async def make_app(settings: ExplorerSettings) -> AsyncIterator[ASGIApp]:
    """Connect to the gateways and build the application. Raises ValueError where a setting makes no sense."""
    scrapers = {service: Scraper(url, settings.timeout_seconds) for service, url in settings.metrics_urls.items()}
    renderer = Renderer(targets=settings.targets, user_log=settings.user_log)
    async with contextlib.AsyncExitStack() as stack:
        gateways = [
            Gateway(
                target=target,
                client=await stack.enter_async_context(connect(settings, target)),
                timeout_seconds=settings.timeout_seconds,
            )
            for target in settings.targets
        ]
        clients = {"gateway": (gateways[0].target, gateways[0].client)}
        for service, target in settings.stage_targets.items():
            clients[service] = (target, await stack.enter_async_context(connect(settings, target)))
        pages = Pages(gateways, HealthLook(clients, scrapers, settings), settings, renderer)

        async def show_error(_request: Request, error: Exception) -> Response:
            status = error.status_code if isinstance(error, HTTPException) else 500
            heading, text = ERRORS.get(status, (f"Status {status}", ""))
            return renderer.page("error.html", status, inputs=Inputs(), heading=heading, text=text)

        # Other sites cannot reach a local explorer under a name of theirs.
        hosts = Middleware(TrustedHostMiddleware, allowed_hosts=[*LOCAL_HOSTS, settings.host, *settings.allowed_hosts])
        yield _WithHeaders(
            Starlette(
                routes=_routes(pages),
                middleware=[hosts],
                exception_handlers={HTTPException: show_error, Exception: show_error},
            )
        )


def _routes(pages: Pages) -> list[BaseRoute]:
    by_path: dict[str, Callable[[Request], Awaitable[Response]]] = {
        "/": pages.recommend,
        "/item": pages.item,
        "/titles": pages.titles,
        "/compare": pages.compare,
        "/release": pages.release,
        "/health": pages.health,
    }
    static = StaticFiles(directory=str(files("winnow.explorer") / "static"))
    return [*(Route(path, page, methods=["GET"]) for path, page in by_path.items()), Mount("/static", static)]


class _WithHeaders:
    """Adds the headers that every answer has."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers: Any = MutableHeaders(scope=message)
                headers.update(HEADERS)
            await send(message)

        await self._app(scope, receive, send_with_headers)
