"""Compiles filters beside the event loop, each once, and keeps those that were used last."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from winnow.catalogue.filters.cache import FilterCache, Sized
from winnow.rpc.errors import OverloadedError

Compiled = TypeVar("Compiled", bound=Sized)

# More new filters than this wait for several seconds on a large catalogue: longer than any caller does.
MAX_WAITING = 128
# One takes 20 milliseconds at most on a million items.
RETRY_AFTER_SECONDS = 1.0


class CompiledFilters(Generic[Compiled]):
    """The filters of one release, by their canonical form. Methods are called on the event loop unless they say so."""

    def __init__(self, compile_it: Callable[[str], Compiled], max_bytes: int) -> None:
        """`compile_it` is called in a thread; what it raises is raised by `get`."""
        self._cache = FilterCache(compile_it, max_bytes)
        # Its thread ends when this object is dropped.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="filters")
        self._waiting: dict[str, asyncio.Future[Compiled]] = {}

    async def get(self, canonical: str) -> Compiled:
        """Return a compiled filter. Raises OverloadedError where too many others wait to be compiled."""
        found = self._cache.find(canonical)
        if found is not None:
            return found
        waiting = self._waiting.get(canonical)
        if waiting is None:
            if len(self._waiting) >= MAX_WAITING:
                raise OverloadedError("too many new filters are waiting", retry_after_seconds=RETRY_AFTER_SECONDS)
            loop = asyncio.get_running_loop()
            waiting = self._waiting[canonical] = loop.run_in_executor(self._thread, self._cache.get, canonical)
            waiting.add_done_callback(lambda done: self._on_done(canonical, done))
        # A caller that gives up must not take the filter from the others.
        return await asyncio.shield(waiting)

    def _on_done(self, canonical: str, done: "asyncio.Future[Compiled]") -> None:
        self._waiting.pop(canonical, None)
        if not done.cancelled():
            # Looked at here, lest it is logged, filter and all, where every caller has left.
            done.exception()

    def get_here(self, canonical: str) -> Compiled:
        """Return a compiled filter, compiled in the calling thread if it is not kept; from any thread."""
        return self._cache.get(canonical)
