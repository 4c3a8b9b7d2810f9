"""How networks number the values of attributes: kept in the release, so that items that come later are read alike.

Shape legend: N items that are looked up, P values per item.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from winnow.catalogue.attributes import Attributes, Column
from winnow.catalogue.item_facts import NO_VALUE
from winnow.catalogue.items import as_text
from winnow.catalogue.text_columns import TextListColumn
from winnow.catalogue.value_columns import MISSING_TIMESTAMP, NumberColumn, TimestampColumn

# Numbers and moments are cut into at most so many ranges that hold about the same number of items.
RANGE_COUNT = 32
VALUE_SEPARATOR = ","


@dataclass(frozen=True, kw_only=True)
class AttributeCodes:
    """The codes of one attribute's values, from 1: of texts by their place in a list, of numbers by their range."""

    name: str
    texts: tuple[str, ...] = ()
    """A text with commas is several values of one item."""
    edges: tuple[float, ...] | None = None
    """Where the ranges of numbers, or of microseconds since 1970, begin, without the first; None for texts."""

    @classmethod
    def fit(cls, name: str, column: Column) -> Self:
        """Number the values of a column. Raises ValueError where no item has one."""
        if isinstance(column, NumberColumn | TimestampColumn):
            numbers = _numbers(column, np.arange(len(column)))
            numbers = numbers[~np.isnan(numbers)]
            if len(numbers):
                inner = np.quantile(numbers, np.linspace(0, 1, RANGE_COUNT + 1)[1:-1], method="higher")
                return cls(name=name, edges=tuple(np.unique(inner[inner > numbers.min()]).tolist()))
        else:
            counts = Counter(text for row in range(len(column)) for text in _texts(column, row))
            if counts:
                return cls(name=name, texts=tuple(text for text, _ in counts.most_common()))
        raise ValueError(f"attribute {name} has no value for any item")

    @property
    def value_count(self) -> int:
        """Codes lie in [1, value_count]."""
        return len(self.texts) if self.edges is None else len(self.edges) + 1

    def encode(self, attributes: Attributes, rows: NDArray[np.integer]) -> NDArray[np.int32]:
        """Return the codes of some items, int32 [N, P], padded with NO_VALUE; an unknown value has no code.

        P is at least 1. Raises KeyError where there is no such attribute.
        """
        column = attributes[self.name]
        if self.edges is not None:
            if not isinstance(column, NumberColumn | TimestampColumn):
                raise ValueError(f"attribute {self.name} is a {column.type} and not numbers")
            numbers = _numbers(column, rows)
            found = 1 + np.searchsorted(np.array(self.edges), numbers, side="right")
            return np.where(np.isnan(numbers), NO_VALUE, found).astype(np.int32)[:, None]
        code_of = dict(zip(self.texts, range(1, len(self.texts) + 1), strict=True))
        codes = [[code_of[text] for text in _texts(column, row) if text in code_of] for row in rows.tolist()]
        table = np.full((len(codes), max([1, *map(len, codes)])), NO_VALUE, dtype=np.int32)
        for position, of_item in enumerate(codes):
            table[position, : len(of_item)] = of_item
        return table


@dataclass(frozen=True, kw_only=True)
class ItemCodes:
    """The codes of everything that the networks read of an item."""

    watched: tuple[AttributeCodes, ...] = ()
    """Of AttributeEmbeddings."""
    parts: tuple[AttributeCodes, ...] = ()
    """Of ItemParts."""

    def __bool__(self) -> bool:
        return bool(self.watched or self.parts)

    def dump(self) -> bytes:
        """Write as JSON."""
        return _CODES.dump_json(self)

    @classmethod
    def load(cls, data: bytes) -> "ItemCodes":
        """Read what `dump` wrote. Raises ValueError for anything else."""
        return _CODES.validate_json(data)


_CODES = TypeAdapter(ItemCodes)
NO_CODES = ItemCodes()


def _numbers(column: NumberColumn | TimestampColumn, rows: NDArray[np.integer]) -> NDArray[np.float64]:
    if isinstance(column, NumberColumn):
        numbers: NDArray[np.float64] = column.values[rows]
        return numbers
    moments = column.values[rows]
    return np.where(moments == MISSING_TIMESTAMP, np.nan, moments.astype(np.float64))


def _texts(column: Column, row: int) -> Sequence[str]:
    value = column[row]
    parts = value if isinstance(column, TextListColumn) and isinstance(value, list) else split_values(as_text(value))
    return [part for part in map(str.strip, parts) if part]


def split_values(text: str | None) -> list[str]:
    """The values in one text."""
    return [] if text is None else text.split(VALUE_SEPARATOR)
