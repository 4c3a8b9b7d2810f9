"""Asks the explorer for pages in this process: the application, with a real client behind it."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from winnow.explorer.app import make_app
from winnow.explorer.settings import ExplorerSettings

Headers = Mapping[str, str]


@dataclass(frozen=True)
class Page:
    status: int
    headers: Headers
    text: str


def pages(settings: ExplorerSettings, paths: Iterable[str], *, method: str = "GET", **headers: str) -> list[Page]:
    """Ask for several pages of one explorer, one after the other."""

    async def ask() -> list[Page]:
        async with make_app(settings) as app:
            return [await _page(app, path, method, {"host": "localhost", **headers}) for path in paths]

    return asyncio.run(ask())


def page(settings: ExplorerSettings, path: str, *, method: str = "GET", **headers: str) -> Page:
    [found] = pages(settings, [path], method=method, **headers)
    return found


async def _page(app: Any, path: str, method: str, headers: Headers) -> Page:
    sent: list[Any] = []

    async def receive() -> Any:
        return await asyncio.Future()  # a browser that stays and sends nothing

    async def send(message: Any) -> None:
        sent.append(message)

    path, _, query = path.partition("?")
    scope = {
        "type": "http", "http_version": "1.1", "scheme": "http", "method": method, "path": path, "root_path": "",
        "raw_path": path.encode(), "query_string": query.encode(), "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    try:
        await app(scope, receive, send)
    except ZeroDivisionError:  # a defect that a test has made; what is answered comes first, then the server logs it
        assert sent
    start, *body = sent
    return Page(
        status=start["status"],
        headers={name.decode(): value.decode() for name, value in start["headers"]},
        text=b"".join(message.get("body", b"") for message in body).decode(),
    )
