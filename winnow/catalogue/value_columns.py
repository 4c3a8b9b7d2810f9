"""Numbers, timestamps and booleans by row, each with a value that says that there is none.

Shape legend: I items.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from winnow.catalogue.literals import EPOCH, microseconds, parse_boolean, parse_number, parse_timestamp
from winnow.catalogue.schema import AttributeType, AttributeValueError

T = TypeVar("T")

MISSING_TIMESTAMP = np.iinfo(np.int64).min
MISSING_BOOLEAN, FALSE, TRUE = 0, 1, 2
MIN_MICROSECONDS = microseconds(datetime.min.replace(tzinfo=UTC))
MAX_MICROSECONDS = microseconds(datetime.max.replace(tzinfo=UTC))


class _ValueColumn:
    """An array of values by row [I]."""

    dtype: ClassVar[type[np.generic]]
    missing: ClassVar[Any]
    distinct_count: ClassVar = None

    def __init__(self, values: NDArray[Any]) -> None:
        """Raise ValueError for another type or shape."""
        if values.ndim != 1 or values.dtype != self.dtype:
            raise ValueError(f"values are {values.dtype} {list(values.shape)}, not {np.dtype(self.dtype)}")
        self.values = values

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Build from what `arrays` returned. Raises ValueError for another type or shape, KeyError for a gap."""
        return cls(arrays["values"])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What has to be stored."""
        return {"values": self.values}

    def replaced(self, item_count: int, rows: NDArray[np.int64], values: Self) -> Self:
        """Return the column of `item_count` items, at least as many as before, whose rows [N] have other values [N]."""
        all_values = np.full(item_count, self.missing, dtype=self.dtype)
        all_values[: len(self)] = self.values
        all_values[rows] = values.values
        return type(self)(all_values)

    def __len__(self) -> int:
        return len(self.values)


class NumberColumn(_ValueColumn):
    """A number by row, float64 [I]: whole numbers beyond 2^53 are rounded. NaN where there is none."""

    type: ClassVar = AttributeType.NUMBER
    dtype = np.float64
    missing = math.nan

    def __init__(self, values: NDArray[np.float64]) -> None:
        """Raise ValueError for another type or shape."""
        super().__init__(values)
        self.missing_count = int(np.count_nonzero(np.isnan(values)))

    @classmethod
    def from_values(cls, values: Iterable[object]) -> Self:
        """Build from a number, a number as text, None or NaN by row. Raises ValueError that names the row."""
        if isinstance(values, np.ndarray) and values.dtype.kind in "iuf":
            return cls(values.astype(np.float64))
        return cls(np.array(_read(values, _number, math.nan), dtype=np.float64))

    def __getitem__(self, row: int) -> float | None:
        value = float(self.values[row])
        return None if math.isnan(value) else value


class TimestampColumn(_ValueColumn):
    """A moment by row, in microseconds since 1970, int64 [I], from the year 1 to 9999."""

    type: ClassVar = AttributeType.TIMESTAMP
    dtype = np.int64
    missing = MISSING_TIMESTAMP

    def __init__(self, values: NDArray[np.int64]) -> None:
        """Raise ValueError for another type or shape, or a moment outside of the range."""
        super().__init__(values)
        outside = ((values < MIN_MICROSECONDS) & (values != MISSING_TIMESTAMP)) | (values > MAX_MICROSECONDS)
        if outside.any():
            raise AttributeValueError(int(np.argmax(outside)), "the moment is not in the years 1 to 9999")
        self.missing_count = int(np.count_nonzero(values == MISSING_TIMESTAMP))

    @classmethod
    def from_values(cls, values: Iterable[object]) -> Self:
        """Build from a moment or None by row: a datetime (UTC where it names no zone), a date, seconds since 1970.

        Text is RFC 3339, a date, or seconds since 1970. Raises ValueError that names the row.
        """
        if isinstance(values, np.ndarray) and values.dtype.kind == "M":
            return cls(values.astype("datetime64[us]").astype(np.int64))
        return cls(np.array(_read(values, _microseconds, int(MISSING_TIMESTAMP)), dtype=np.int64))

    def __getitem__(self, row: int) -> datetime | None:
        value = int(self.values[row])
        return None if value == MISSING_TIMESTAMP else EPOCH + timedelta(microseconds=value)


class BooleanColumn(_ValueColumn):
    """True, false or neither by row, uint8 [I]."""

    type: ClassVar = AttributeType.BOOLEAN
    dtype = np.uint8
    missing = MISSING_BOOLEAN

    def __init__(self, values: NDArray[np.uint8]) -> None:
        """Raise ValueError for another type, shape or value."""
        super().__init__(values)
        if values.max(initial=0) > TRUE:
            raise ValueError(f"row {int(np.argmax(values > TRUE))}: {int(values.max())} is not a boolean")
        self.missing_count = int(np.count_nonzero(values == MISSING_BOOLEAN))

    @classmethod
    def from_values(cls, values: Iterable[object]) -> Self:
        """Build from a boolean or None by row, `true` and `false` (in capitals or not), or 1 and 0.

        Raises ValueError that names the row.
        """
        return cls(np.array(_read(values, _boolean, MISSING_BOOLEAN), dtype=np.uint8))

    def __getitem__(self, row: int) -> bool | None:
        value = int(self.values[row])
        return None if value == MISSING_BOOLEAN else value == TRUE


def _read(values: Iterable[object], read: Callable[[object], T], missing: T) -> list[T]:
    found = []
    for row, value in enumerate(values):
        try:
            found.append(missing if value is None or value == "" else read(value))
        except (ValueError, OverflowError) as error:
            raise AttributeValueError(row, str(error)) from None
    return found


def _number(value: object) -> float:
    if isinstance(value, str):
        return parse_number(value)
    if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
        return float(value)
    raise ValueError(f"{value!r} is not a number")


def _microseconds(value: object) -> int:
    if isinstance(value, str):
        return _microseconds_of_text(value)
    if isinstance(value, datetime):
        return microseconds(value.replace(tzinfo=UTC) if value.tzinfo is None else value)
    if isinstance(value, date):
        return microseconds(datetime.combine(value, time(tzinfo=UTC)))
    if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
        return int(MISSING_TIMESTAMP) if math.isnan(value) else _microseconds_of_seconds(value)
    raise ValueError(f"{value!r} is neither a timestamp nor seconds since 1970")


def _microseconds_of_text(text: str) -> int:
    try:
        seconds = parse_number(text)
    except ValueError:
        return microseconds(parse_timestamp(text))
    return _microseconds_of_seconds(seconds)


def _microseconds_of_seconds(seconds: int | float | np.integer[Any] | np.floating[Any]) -> int:
    rounded = round(seconds * 1_000_000)
    if not MIN_MICROSECONDS <= rounded <= MAX_MICROSECONDS:
        raise ValueError(f"{seconds} seconds since 1970 are not in the years 1 to 9999")
    return rounded


def _boolean(value: object) -> int:
    if isinstance(value, str):
        value = value == "1" if value in ("0", "1") else parse_boolean(value.lower())
    if isinstance(value, bool | np.bool_ | int | np.integer) and value in (0, 1):
        return TRUE if value else FALSE
    raise ValueError(f"{value!r} is neither true nor false")
