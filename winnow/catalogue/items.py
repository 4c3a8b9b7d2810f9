"""Item metadata for display: one JSON line an item, found by row."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from winnow.catalogue.records import RecordFile


@dataclass(frozen=True)
class ItemMetadata:
    """What a person wants to see of an item."""

    title: str
    attributes: Mapping[str, str]


class ItemCatalogue:
    """Metadata by row; see RecordFile for the memory that it takes."""

    def __init__(self, path: Path, item_count: int) -> None:
        """Raise ValueError unless the file has one line an item."""
        self._lines = RecordFile(path, b"\n", item_count)

    def __getitem__(self, row: int) -> ItemMetadata:
        line = json.loads(self._lines[row])
        return ItemMetadata(title=line["title"], attributes=line.get("attributes", {}))


def item_lines(titles: Sequence[str], attributes: Sequence[Mapping[str, str]]) -> Iterable[str]:
    """Yield the lines of the file, in the order of rows."""
    for title, further in zip(titles, attributes, strict=True):
        yield json.dumps({"title": title, "attributes": dict(further)} if further else {"title": title}) + "\n"
