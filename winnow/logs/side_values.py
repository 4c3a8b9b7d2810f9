"""A column of the items file as numbers, for AttributeEmbeddings."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from winnow.catalogue.item_facts import NO_VALUE
from winnow.logs.fingerprint import fingerprint
from winnow.logs.input_table import InputFileError

VALUE_SEPARATOR = ","


@dataclass(frozen=True, kw_only=True, eq=False)
class SideValues:
    """The values of one column for I items: int32 [I, P], each from 1 to `value_count`, padded with NO_VALUE."""

    values: NDArray[np.int32]
    value_count: int

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
    return SideValues(values=table, value_count=len(numbers))


def _parts(value: object) -> list[str]:
    if value is None:
        return []
    parts = value if isinstance(value, list) else str(value).split(VALUE_SEPARATOR)
    return [part for part in (str(part).strip() for part in parts) if part]
