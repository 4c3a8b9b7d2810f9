"""Compiled filters that were used lately."""

import sys
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

from winnow.catalogue.filters.compiler import CompiledFilter


class FilterCache:
    """Keeps the compiled filters that were used last, up to a number of bytes; safe to use from several threads."""

    def __init__(self, max_bytes: int) -> None:
        """A filter takes I / 8 bytes of a release of I items, and its text."""
        self._max_bytes = max_bytes
        self._filters: OrderedDict[tuple[str, str], CompiledFilter] = OrderedDict()
        self._lock = Lock()
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._filters)

    def get(self, release_id: str, canonical: str, compile_it: Callable[[], CompiledFilter]) -> CompiledFilter:
        """Return the filter with this canonical form, compiled for this release, by `compile_it` if it is not here.

        Two threads that miss the same filter at the same time both compile it. What `compile_it` raises is not caught.
        """
        key = (release_id, canonical)
        with self._lock:
            found = self._filters.get(key)
            if found is not None:
                self._filters.move_to_end(key)
                return found
        compiled = compile_it()
        with self._lock:
            if key not in self._filters:
                self._filters[key] = compiled
                self.size_bytes += _size_bytes(key, compiled)
            while self.size_bytes > self._max_bytes:
                self.size_bytes -= _size_bytes(*self._filters.popitem(last=False))
        return compiled

    def forget(self, release_id: str) -> None:
        """Drop the filters of a release that is no longer held."""
        with self._lock:
            for key in [key for key in self._filters if key[0] == release_id]:
                self.size_bytes -= _size_bytes(key, self._filters.pop(key))


def _size_bytes(key: tuple[str, str], compiled: CompiledFilter) -> int:
    return compiled.bitmap.nbytes + sys.getsizeof(key[1])
