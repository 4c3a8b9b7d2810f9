"""Item metadata for display: one JSON line an item, memory-mapped, found by row."""

import json
import mmap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from winnow.history import Rows


@dataclass(frozen=True)
class ItemMetadata:
    """What a person wants to see of an item."""

    title: str
    attributes: Mapping[str, str]


class ItemCatalogue:
    """Metadata by row. Only the line ends are in memory (8 bytes an item); the text stays in the file's pages."""

    def __init__(self, path: Path, item_count: int) -> None:
        """Raise ValueError unless the file has one line an item."""
        self._item_count = item_count
        with path.open("rb") as file:
            self._text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._ends = np.flatnonzero(np.frombuffer(self._text, dtype=np.uint8) == ord("\n"))
        if len(self._ends) != item_count:
            raise ValueError(f"{len(self._ends)} lines for {item_count} items")

    def __getitem__(self, row: int) -> ItemMetadata:
        start = int(self._ends[row - 1]) + 1 if row else 0
        line = json.loads(self._text[start : int(self._ends[row])])
        return ItemMetadata(title=line["title"], attributes=line.get("attributes", {}))

    def positions_by_title(self, title_contains: str, order: Rows, limit: int) -> list[int]:
        """Return the first `limit` positions in an order of rows whose title contains the text, ignoring case."""
        wanted = title_contains.casefold()
        found: list[int] = []
        for position, row in enumerate(order.tolist()):
            if wanted in self[row].title.casefold():
                found.append(position)
                if len(found) == limit:
                    break
        return found


def item_lines(titles: Sequence[str], attributes: Sequence[Mapping[str, str]]) -> Iterable[str]:
    """Yield the lines of the file, in the order of rows."""
    for title, further in zip(titles, attributes, strict=True):
        yield json.dumps({"title": title, "attributes": dict(further)} if further else {"title": title}) + "\n"
