"""Compiled filters that were used lately."""

import sys
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    """What takes memory."""

    @property
    def size_bytes(self) -> int:
        """How much."""


Compiled = TypeVar("Compiled", bound=Sized)


class FilterCache(Generic[Compiled]):
    """Keeps the filters of one release that were used last, up to a number of bytes; safe to use from several threads.

    What is kept of a filter is what `compile_it` makes of its canonical form.
    """

    def __init__(self, compile_it: Callable[[str], Compiled], max_bytes: int) -> None:
        self._compile = compile_it
        self._max_bytes = max_bytes
        self._filters: OrderedDict[str, Compiled] = OrderedDict()
        self._lock = Lock()
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._filters)

    def find(self, canonical: str) -> Compiled | None:
        """Return the filter with this canonical form if it is here."""
        with self._lock:
            found = self._filters.get(canonical)
            if found is not None:
                self._filters.move_to_end(canonical)
            return found

    def get(self, canonical: str) -> Compiled:
        """Return the filter with this canonical form, compiled if it is not here.

        Two threads that miss the same filter at the same time both compile it. What that raises is not caught.
        """
        found = self.find(canonical)
        if found is not None:
            return found
        compiled = self._compile(canonical)
        with self._lock:
            if canonical not in self._filters:
                self._filters[canonical] = compiled
                self.size_bytes += _size_bytes(canonical, compiled)
            while self.size_bytes > self._max_bytes:
                self.size_bytes -= _size_bytes(*self._filters.popitem(last=False))
        return compiled


def _size_bytes(canonical: str, compiled: Sized) -> int:
    return compiled.size_bytes + sys.getsizeof(canonical)
