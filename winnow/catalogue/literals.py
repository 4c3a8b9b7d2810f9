"""Numbers, timestamps and booleans as text, the same in filters, in CSV files and where values are shown."""

import math
import re
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?", re.ASCII | re.IGNORECASE)
_BOOLEANS = {"true": True, "false": False}


def parse_number(text: str) -> float:
    """Read a decimal number such as `1990`, `-4.5` or `1e6`. Raises ValueError for anything else."""
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{text[:50]!r} is not a number")
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:50]!r} is too large a number")
    return number + 0.0  # -0 becomes 0: the two are equal, and have to look equal.


def parse_timestamp(text: str) -> datetime:
    """Read an RFC 3339 time, in UTC where it names no offset, or a date, which is its first moment in UTC.

    Fractions of a second are cut to microseconds. Raises ValueError for anything else.
    """
    if not _TIMESTAMP.fullmatch(text):
        raise ValueError(f"{text[:50]!r} is not a timestamp")
    try:
        moment = datetime.fromisoformat(text.upper())
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{text[:50]!r} is not a timestamp: there is no such moment") from None


def parse_boolean(text: str) -> bool:
    """Read `true` or `false`. Raises ValueError for anything else."""
    if text not in _BOOLEANS:
        raise ValueError(f"{text[:50]!r} is neither true nor false")
    return _BOOLEANS[text]


def format_number(number: float) -> str:
    """The shortest text that `parse_number` reads as this number."""
    return repr(number).removesuffix(".0")


def format_timestamp(moment: datetime) -> str:
    """An RFC 3339 time in UTC."""
    return f"{moment.isoformat().removesuffix('+00:00')}Z"


def format_boolean(flag: bool) -> str:
    """`true` or `false`."""
    return "true" if flag else "false"


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970, exactly."""
    return (moment - EPOCH) // timedelta(microseconds=1)
