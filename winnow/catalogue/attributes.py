"""The attributes of a release's items: typed columns in one file that every process maps.

Shape legend: I items.
"""

import json
import mmap
import operator
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save_file

from winnow.catalogue.mapped_arrays import map_arrays
from winnow.catalogue.schema import Attribute, AttributeType, AttributeValueError, Schema, check_name
from winnow.catalogue.text_columns import TextColumn, TextListColumn
from winnow.catalogue.value_columns import BooleanColumn, NumberColumn, TimestampColumn

Column: TypeAlias = TextColumn | TextListColumn | NumberColumn | TimestampColumn | BooleanColumn

COLUMN_TYPES: Mapping[AttributeType, type[Column]] = {
    AttributeType.TEXT: TextColumn,
    AttributeType.LIST: TextListColumn,
    AttributeType.NUMBER: NumberColumn,
    AttributeType.TIMESTAMP: TimestampColumn,
    AttributeType.BOOLEAN: BooleanColumn,
}


class Attributes:
    """Typed columns by name, each with a value or none for every item."""

    def __init__(self, columns: Mapping[str, Column], item_count: int) -> None:
        """Raise ValueError for a name that cannot be used, or a column of another length than `item_count`."""
        for name, column in columns.items():
            check_name(name)
            if len(column) != item_count:
                raise ValueError(f"attribute {name} has {len(column)} values for {item_count} items")
        self._columns = dict(columns)
        self.item_count = item_count

    @classmethod
    def from_values(
        cls, values: Mapping[str, Iterable[object]], types: Mapping[str, AttributeType], item_count: int
    ) -> Self:
        """Build from a value or None by row, of each attribute in `types`: Python values or a NumPy array.

        Raises AttributeValueError for a value that does not fit its type, ValueError for one that is not Unicode text.
        """
        columns = {}
        for name, type_ in types.items():
            try:
                columns[name] = COLUMN_TYPES[type_].from_values(values[name])
            except AttributeValueError as error:
                raise AttributeValueError(error.row, error.reason, name) from None
            except ValueError as error:
                raise ValueError(f"attribute {name}, {error}") from None
        return cls(columns, item_count)

    def replaced(self, item_count: int, rows: NDArray[np.int64], changes: "Attributes") -> "Attributes":
        """Return the attributes of `item_count` items, at least as many as before, with other values in some rows [N].

        `changes` has the new values of these rows, of some of the attributes. The others stay as they are, and have no
        value in new rows. Raises ValueError for changes of another type.
        """
        columns: dict[str, Column] = {}
        for name, column in self._columns.items():
            # Of the column's own type, which is more than the types say of the two.
            values: Any = changes.get(name)
            if values is None:
                nothing: Any = COLUMN_TYPES[column.type]
                columns[name] = column.replaced(item_count, rows[:0], nothing.from_values(()))
            elif values.type is column.type:
                columns[name] = column.replaced(item_count, rows, values)
            else:
                raise ValueError(f"attribute {name} is of the type {column.type}, not {values.type}")
        return Attributes(columns, item_count)

    @property
    def schema(self) -> Schema:
        """Name, type and counts of each attribute."""
        return {
            name: Attribute(
                name=name,
                type=column.type,
                missing_count=column.missing_count,
                distinct_count=column.distinct_count,
            )
            for name, column in self._columns.items()
        }

    def __getitem__(self, name: str) -> Column:
        return self._columns[name]

    def __contains__(self, name: str) -> bool:
        return name in self._columns

    def get(self, name: str) -> Column | None:
        """The column of this name; None where there is none."""
        return self._columns.get(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def save(self, path: Path) -> None:
        """Write a safetensors file: the columns' arrays, and a list of names and types in its header."""
        header = {
            "item_count": self.item_count,
            "attributes": [{"name": name, "type": column.type} for name, column in self._columns.items()],
        }
        arrays = {
            f"{position}.{part}": np.ascontiguousarray(array)
            for position, column in enumerate(self._columns.values())
            for part, array in column.arrays().items()
        }
        save_file(arrays, path, metadata={"schema": json.dumps(header)})

    @classmethod
    def open(cls, path: Path) -> Self:
        """Map what `save` wrote: pages are read when they are used, and shared by all processes of a machine.

        Raises ValueError where the file is not that.
        """
        try:
            mapped, arrays, metadata = map_arrays(path)
            header = json.loads(metadata["schema"])
            columns = {}
            for position, attribute in enumerate(header["attributes"]):
                prefix = f"{position}."
                parts = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
                columns[str(attribute["name"])] = COLUMN_TYPES[AttributeType(attribute["type"])].from_arrays(parts)
            # The columns were checked from end to end. Their pages need not count as this process's memory for that.
            mapped.madvise(mmap.MADV_DONTNEED)
            return cls(columns, operator.index(header["item_count"]))
        except (KeyError, TypeError, ValueError, SafetensorError) as error:
            raise ValueError(f"{path.name} does not hold attributes: {error}") from error
