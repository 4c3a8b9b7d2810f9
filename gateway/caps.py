"""Caps: at most so many items of an answer have the same value of an attribute.

Shape legend: N items, V values that any of them has, E pairs of an item and one of its values.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from winnow.catalogue.attributes import Column
from winnow.catalogue.schema import AttributeType
from winnow.catalogue.text_columns import TextColumn, TextListColumn
from winnow.catalogue.value_columns import MISSING_BOOLEAN, BooleanColumn, NumberColumn
from winnow.history import Rows, stretches

CAPPED_TYPES = (AttributeType.TEXT, AttributeType.LIST, AttributeType.NUMBER, AttributeType.BOOLEAN)


class CapCounts:
    """How often each value has been taken, of N items, and which items may no longer be taken.

    Items are named by their position among the N.
    """

    def __init__(self, caps: Sequence[tuple[Column, int]], rows: Rows) -> None:
        """Take columns of CAPPED_TYPES, each with its cap, and the row of each item."""
        self.blocked = np.zeros(len(rows), dtype=np.bool_)
        """Whether one of the item's values has reached its cap, [N]."""
        owners: list[NDArray[np.intp]] = [np.empty(0, dtype=np.intp)]
        values: list[NDArray[np.intp]] = [np.empty(0, dtype=np.intp)]
        limits: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
        value_count = 0
        for column, max_count in caps:
            owner_E, code_E = _values(column, rows)
            distinct, number_E = np.unique(code_E, return_inverse=True)
            owners.append(owner_E)
            values.append(number_E + value_count)
            limits.append(np.full(len(distinct), max_count, dtype=np.int64))
            value_count += len(distinct)
        self._limits = np.concatenate(limits)
        self._counts = np.zeros(value_count, dtype=np.int64)
        owner_E, value_E = np.concatenate(owners), np.concatenate(values)
        self._values, self._value_starts = _grouped(value_E, by=owner_E, group_count=len(rows))
        self._owners, self._owner_starts = _grouped(owner_E, by=value_E, group_count=value_count)

    def take(self, item: int) -> None:
        """Count an item's values, each once, and block every item with one that has reached its cap."""
        values = self._values[self._value_starts[item] : self._value_starts[item + 1]]
        self._counts[values] += 1
        for value in values[self._counts[values] >= self._limits[values]].tolist():
            self.blocked[self._owners[self._owner_starts[value] : self._owner_starts[value + 1]]] = True


def _values(column: Column, rows: Rows) -> tuple[NDArray[np.intp], NDArray[Any]]:
    """Return pairs of an item and a value of it, [E] each; an item without a value is in none."""
    match column:
        case TextColumn():
            codes = column.codes_plus_one[rows]
            (owners,) = np.nonzero(codes)
        case TextListColumn():
            ends = column.ends[rows].astype(np.int64)
            starts = np.where(rows == 0, 0, column.ends[rows - 1].astype(np.int64))
            owners = np.repeat(np.arange(len(rows)), ends - starts)
            return owners, column.codes[stretches(starts, ends - starts)]
        case NumberColumn():
            codes = column.values[rows]
            (owners,) = np.nonzero(~np.isnan(codes))
        case BooleanColumn():
            codes = column.values[rows]
            (owners,) = np.nonzero(codes != MISSING_BOOLEAN)
        case _:
            raise AssertionError(f"values of type {column.type} are not capped")
    return owners, codes[owners]


def _grouped(
    values_E: NDArray[np.intp], *, by: NDArray[np.intp], group_count: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Order values by their group, [E]; return them and where each group starts, and the last ends, [groups + 1]."""
    order = np.argsort(by, kind="stable")
    starts = np.searchsorted(by[order], np.arange(group_count + 1))
    return values_E[order], starts
