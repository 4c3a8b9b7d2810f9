"""The values of a column of the items file as numbers: what AttributeEmbeddings are filled with."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from winnow.catalogue.item_facts import NO_VALUE
from winnow.logs.input_table import InteractionLogError

VALUE_SEPARATOR = ","


@dataclass(frozen=True, kw_only=True, eq=False)
class SideValues:
    """Which values the I items have of one column: int32 [I, P], from 1 to `value_count`, NO_VALUE where none is."""

    values: NDArray[np.int32]
    value_count: int

    @property
    def fingerprint(self) -> str:
        """A SHA-256 of which item has which values."""
        return hashlib.sha256(np.ascontiguousarray(self.values).tobytes()).hexdigest()


def side_values(attributes: Sequence[Mapping[str, str]], column: str) -> SideValues:
    """Number the values of a column, the most frequent first; commas separate several of one item.

    Raises InteractionLogError where no item has any.
    """
    values_of_items = [
        [value.strip() for value in item.get(column, "").split(VALUE_SEPARATOR) if value.strip()] for item in attributes
    ]
    counts = Counter(value for values in values_of_items for value in values)
    if not counts:
        raise InteractionLogError(f"the items file: column {column} has no value for any item of the log")
    numbers = {value: number for number, (value, _) in enumerate(counts.most_common(), start=NO_VALUE + 1)}
    table = np.full((len(attributes), max(map(len, values_of_items))), NO_VALUE, dtype=np.int32)
    for row, values in enumerate(values_of_items):
        table[row, : len(values)] = [numbers[value] for value in values]
    return SideValues(values=table, value_count=len(numbers))
