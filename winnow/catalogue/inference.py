"""Which types the columns of an items file have, where nobody says: read off all of their values, with the reason."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import cast

from winnow.catalogue.attributes import Attributes
from winnow.catalogue.literals import parse_boolean, parse_number, parse_timestamp
from winnow.catalogue.schema import AttributeType
from winnow.catalogue.value_columns import NumberColumn

SKIP = "skip"
SEPARATORS = "|;,"
# A column holds lists if at least one value in this many has a separator.
VALUES_PER_LIST = 10
# From here on, neighbouring whole numbers are the same float64: such large numbers are ids.
FIRST_ROUNDED_INTEGER = 2**53
# From 1973-03-03 up to 2100-01-01, in seconds since 1970.
FIRST_SECOND, LAST_SECOND = 100_000_000, 4_102_444_800
_TIME_NAME = re.compile(r"(^|[_ ])(timestamp|time|date|at|created|added|updated|uploaded|published)$", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class ColumnType:
    """The type of a column, and why it is that."""

    type: AttributeType
    reason: str
    separator: str | None = None
    """What divides the texts of a list that is stored as one text; None where lists are lists."""

    def __str__(self) -> str:
        return f"{self.type} ({self.reason})"


def parse_types(text: str) -> dict[str, AttributeType | None]:
    """Read `genres:list, year:number, description:skip`; None is a column to leave out.

    Raises ValueError that says which part is wrong.
    """
    types: dict[str, AttributeType | None] = {}
    names = [*AttributeType, SKIP]
    for part in filter(None, map(str.strip, text.split(","))):
        column, colon, name = part.rpartition(":")
        if not colon or not column.strip() or name.strip() not in names:
            raise ValueError(f"{part!r} is not a column and its type: {', '.join(names)}")
        if column.strip() in types:
            raise ValueError(f"column {column.strip()!r} has two types")
        types[column.strip()] = None if name.strip() == SKIP else AttributeType(name.strip())
    return types


def choose_types(
    columns: Mapping[str, Sequence[object]], given: Mapping[str, AttributeType | None]
) -> dict[str, ColumnType]:
    """Return the types of columns of values, None or "" where an item has none.

    Types are those that are given; None leaves a column out. The others are inferred. Raises ValueError for a given
    column that is not there, and for one whose values cannot be an attribute.
    """
    unknown = [name for name in given if name not in columns]
    if unknown:
        raise ValueError(f"there is no column {unknown[0]!r} to give a type; there are {', '.join(columns)}")
    types: dict[str, ColumnType] = {}
    errors: dict[str, ValueError] = {}
    for name, values in columns.items():
        type_ = given.get(name)
        if type_ is not None:
            separator = _separator(values) if type_ is AttributeType.LIST else None
            types[name] = ColumnType(type=type_, reason="given", separator=separator)
        elif name not in given:
            try:
                types[name] = infer_type(name, values)
            except ValueError as error:
                errors[name] = error
    if errors:
        what = "; ".join(f"column {name}: {error}" for name, error in errors.items())
        skipped = ",".join(f"{name}:{SKIP}" for name in errors)
        raise ValueError(f"{what}; {skipped} leaves {'it' if len(errors) == 1 else 'them'} out")
    return types


def build_attributes(
    columns: Mapping[str, Sequence[object]], types: Mapping[str, ColumnType], item_count: int
) -> Attributes:
    """Build the attributes that `types` names from the values of `item_count` items, None or "" where one has none.

    Raises AttributeValueError for a value that does not fit its type, ValueError for a name that cannot be used.
    """
    split = {name: _split(columns[name], column_type.separator) for name, column_type in types.items()}
    return Attributes.from_values(split, {name: column_type.type for name, column_type in types.items()}, item_count)


def infer_type(name: str, values: Sequence[object]) -> ColumnType:
    """Infer the type from all values that are there. Raises ValueError for values that cannot be an attribute.

    Texts are numbers, booleans or timestamps if all of them can be read as that. Numbers with leading zeros or from
    2^53 on are texts: they are ids. Numbers are seconds since 1970 if the column is called like a time, such as
    `created_at`, and all are of the years 1973 to 2099. Texts are lists if at least a tenth of them has `|`, or has `;`
    or `,` and the parts come back: there are at most half as many distinct parts as distinct texts.
    """
    present = [value for value in values if value is not None and value != "" and not _is_nan(value)]
    everything = f"{len(present):,} of {len(present):,} values are "
    if not present:
        return ColumnType(type=AttributeType.TEXT, reason="no item has a value")
    if all(isinstance(value, str) for value in present):
        inferred = _infer_from_texts([str(value) for value in present])
    elif all(isinstance(value, bool) for value in present):
        inferred = ColumnType(type=AttributeType.BOOLEAN, reason=everything + "booleans")
    elif all(isinstance(value, int | float) and not isinstance(value, bool) for value in present):
        inferred = _infer_from_numbers(present)
    elif all(isinstance(value, date) for value in present):
        inferred = ColumnType(type=AttributeType.TIMESTAMP, reason=everything + "timestamps")
    elif all(isinstance(value, list | tuple) for value in present):
        if any(isinstance(part, list | tuple | dict) for value in present for part in cast(Sequence[object], value)):
            raise ValueError("nested lists cannot be an attribute")
        inferred = ColumnType(type=AttributeType.LIST, reason=everything + "lists")
    else:
        kinds = sorted({type(value).__name__ for value in present})
        raise ValueError(f"values of the type {', '.join(kinds)} cannot be an attribute")
    if inferred.type is AttributeType.NUMBER and _TIME_NAME.search(name):
        numbers = NumberColumn.from_values(present).values
        if ((numbers >= FIRST_SECOND) & (numbers < LAST_SECOND)).all():
            return ColumnType(type=AttributeType.TIMESTAMP, reason=everything + "seconds since 1970, by the name")
    return inferred


def _infer_from_numbers(numbers: Sequence[object]) -> ColumnType:
    integers = [number for number in numbers if isinstance(number, int)]
    large = next((number for number in integers if abs(number) >= FIRST_ROUNDED_INTEGER), None)
    if large is not None and len(integers) == len(numbers):
        return ColumnType(type=AttributeType.TEXT, reason=f"{large} is too large for an exact number")
    return ColumnType(type=AttributeType.NUMBER, reason=f"{len(numbers):,} of {len(numbers):,} values are numbers")


def _infer_from_texts(texts: Sequence[str]) -> ColumnType:
    everything = f"{len(texts):,} of {len(texts):,} values are "
    not_a_number = _first_error(texts, _read_number)
    if not_a_number is None:
        return ColumnType(type=AttributeType.NUMBER, reason=everything + "numbers")
    if _first_error(texts, lambda text: parse_boolean(text.lower())) is None:
        return ColumnType(type=AttributeType.BOOLEAN, reason=everything + "true or false")
    if _first_error(texts, parse_timestamp) is None:
        return ColumnType(type=AttributeType.TIMESTAMP, reason=everything + "timestamps")
    distinct = set(texts)
    for separator in SEPARATORS:
        having = sum(separator in text for text in texts)
        parts = {part for text in distinct for part in _parts(text, separator)}
        if having * VALUES_PER_LIST >= len(texts) and (separator == "|" or len(parts) * 2 <= len(distinct)):
            reason = f"{having:,} of {len(texts):,} values have a '{separator}', between {len(parts):,} different texts"
            return ColumnType(type=AttributeType.LIST, reason=reason, separator=separator)
    return ColumnType(type=AttributeType.TEXT, reason=not_a_number)


def _first_error(texts: Iterable[str], read: Callable[[str], object]) -> str | None:
    try:
        for text in texts:
            read(text)
    except ValueError as error:
        return str(error)
    return None


def _read_number(text: str) -> float:
    digits = text.lstrip("+-")
    if digits[:1] == "0" and digits[1:2].isdigit():
        raise ValueError(f"{text[:50]!r} has leading zeros")
    number = parse_number(text)
    if digits.isdigit() and abs(number) >= FIRST_ROUNDED_INTEGER:
        raise ValueError(f"{text[:50]!r} is too large for an exact number")
    return number


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _separator(values: Iterable[object]) -> str:
    """The first separator that some text has. Without any, each text is a list of one: a comma does for that."""
    found = {separator for value in values if isinstance(value, str) for separator in SEPARATORS if separator in value}
    return next((separator for separator in SEPARATORS if separator in found), ",")


def _split(values: Sequence[object], separator: str | None) -> Iterable[object]:
    if separator is None:
        return values
    return (_parts(value, separator) if isinstance(value, str) else value for value in values)


def _parts(text: str, separator: str) -> list[str]:
    return [part.strip() for part in text.split(separator)]
