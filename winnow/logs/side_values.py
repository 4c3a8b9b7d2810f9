"""Columns of the items file as numbers, for AttributeEmbeddings and ItemParts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from winnow.catalogue.attribute_codes import AttributeCodes, split_values
from winnow.catalogue.attributes import Attributes
from winnow.catalogue.item_facts import NO_VALUE
from winnow.logs.fingerprint import fingerprint
from winnow.logs.input_table import InputFileError


@dataclass(frozen=True, kw_only=True, eq=False)
class SideValues:
    """The values of one column for I items: int32 [I, P], each from 1 to `value_count`, padded with NO_VALUE."""

    values: NDArray[np.int32]
    value_count: int
    texts: tuple[str, ...] = ()
    """The values themselves, in the order of their numbers, where they are texts."""

    @property
    def fingerprint(self) -> str:
        """A SHA-256 of the values."""
        return fingerprint(self.values)


def side_values(columns: Mapping[str, Sequence[object]], column: str) -> SideValues:
    """Number the values of a column, the most frequent first; commas separate several values in one text.

    Raises InputFileError where no item has a value.
    """
    values_of_items = [_parts(value) for value in columns.get(column, ())]
    counts = Counter(value for values in values_of_items for value in values)
    if not counts:
        raise InputFileError(f"the items file: column {column} has no value for any item of the log")
    numbers = {value: number for number, (value, _) in enumerate(counts.most_common(), start=NO_VALUE + 1)}
    table = np.full((len(values_of_items), max(map(len, values_of_items))), NO_VALUE, dtype=np.int32)
    for row, values in enumerate(values_of_items):
        table[row, : len(values)] = [numbers[value] for value in values]
    return SideValues(values=table, value_count=len(numbers), texts=tuple(numbers))


def fit_codes(attributes: Attributes, names: Sequence[str]) -> list[AttributeCodes]:
    """Number the values of some attributes. Raises InputFileError where there is no such attribute, or no value."""
    for name in names:
        if name not in attributes:
            raise InputFileError(f"the items file: there is no attribute {name}; there are {', '.join(attributes)}")
    try:
        return [AttributeCodes.fit(name, attributes[name]) for name in names]
    except ValueError as error:
        raise InputFileError(f"the items file: {error}") from None


def coded_values(codes: AttributeCodes, attributes: Attributes) -> SideValues:
    """Return the codes of the values of all items."""
    values = codes.encode(attributes, np.arange(attributes.item_count))
    return SideValues(values=values, value_count=codes.value_count)


def _parts(value: object) -> list[str]:
    if value is None:
        return []
    parts = value if isinstance(value, list) else split_values(str(value))
    return [part for part in (str(part).strip() for part in parts) if part]
