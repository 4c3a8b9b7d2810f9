"""Items as they are shown to people: titles, and attributes as text."""

from dataclasses import dataclass
from datetime import datetime

from winnow.catalogue.attributes import Attributes
from winnow.catalogue.literals import format_boolean, format_number, format_timestamp
from winnow.catalogue.vocabulary import Vocabulary

TITLE = "title"
"""The attribute that holds the title of an item."""


@dataclass(frozen=True)
class ItemMetadata:
    """What a person wants to see of an item."""

    title: str
    attributes: dict[str, str]
    """Those besides the title that have a value."""


class ItemCatalogue:
    """Items by row. Nothing is kept in memory: the values are in the file of the attributes."""

    def __init__(self, attributes: Attributes, vocabulary: Vocabulary) -> None:
        self._attributes = attributes
        self._vocabulary = vocabulary

    def __getitem__(self, row: int) -> ItemMetadata:
        shown = {name: as_text(self._attributes[name][row]) for name in self._attributes if name != TITLE}
        return ItemMetadata(
            title=self.title(row), attributes={name: value for name, value in shown.items() if value is not None}
        )

    def title(self, row: int) -> str:
        """The title of an item, its id where it has none."""
        title = as_text(self._attributes[TITLE][row]) if TITLE in self._attributes else None
        return self._vocabulary.item_ids([row])[0] if title is None else title


def as_text(value: str | list[str] | float | datetime | bool | None) -> str | None:
    """The value of an attribute for display."""
    match value:
        case bool():
            return format_boolean(value)
        case float():
            return format_number(value)
        case datetime():
            return format_timestamp(value)
        case list():
            return ", ".join(value)
        case _:
            return value
