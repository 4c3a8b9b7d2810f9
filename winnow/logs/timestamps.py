"""Timestamps of input files: numbers, ISO 8601 text or Parquet dates, as microseconds since 1970."""

from datetime import UTC, datetime

import polars as pl

from winnow.logs.input_table import InputTable
from winnow.logs.log_format import TimeUnit

MICROSECONDS_PER_SECOND = 1_000_000
UNITS_PER_SECOND: dict[TimeUnit, int] = {
    "seconds": 1,
    "milliseconds": 1_000,
    "microseconds": 1_000_000,
    "nanoseconds": 1_000_000_000,
}
# The first second of the year 10000. Milliseconds since 1970 lie beyond it from April 1978 on.
TIMESTAMP_LIMIT_SECONDS = 253_402_300_800


def read_microseconds(
    table: InputTable, name: str = "timestamp", *, unit: TimeUnit = "seconds", optional: bool = False
) -> pl.Series:
    """Return a column of timestamps as int64 microseconds since 1970; with `optional`, null where it is empty.

    `unit` is that of numbers. Raises InputFileError that names the first line without a valid timestamp.
    """
    column = table.column(name)
    table.check_type(column, [pl.Date, pl.Datetime, pl.String, pl.Null], "a date")
    microseconds = column.dt.epoch("us") if column.dtype.is_temporal() else _parsed(column, UNITS_PER_SECOND[unit])
    limit = TIMESTAMP_LIMIT_SECONDS * MICROSECONDS_PER_SECOND
    valid = microseconds.is_between(-limit, limit)
    requirement = f"must be {unit} since 1970 or ISO 8601 text, before the year 10000"
    likely = likely_unit(column)
    if likely is not None and UNITS_PER_SECOND[likely] > UNITS_PER_SECOND[unit]:
        requirement += f"; these look like {likely}"
    table.check(name, valid | column.is_null() if optional else valid, requirement)
    return microseconds


def likely_unit(column: pl.Series) -> TimeUnit | None:
    """Guess the unit of a column's numbers, of times from 1973 to 5138 on; None where it has none."""
    if not (column.dtype.is_numeric() or column.dtype == pl.String):
        return None
    typical = column.cast(pl.Float64, strict=False).abs().median()
    if not isinstance(typical, float):
        return None
    # Seconds have at most 11 digits, and each further unit three more.
    return next((unit for unit, per_second in UNITS_PER_SECOND.items() if typical < 1e11 * per_second), "nanoseconds")


def _parsed(column: pl.Series, units_per_second: int) -> pl.Series:
    """Parse numbers, or text with a number or an ISO 8601 time; null where it is neither."""
    numbers = column.cast(pl.Float64, strict=False) / units_per_second
    # Float64 is exact to the microsecond in this century; larger numbers would overflow int64.
    numbers = numbers.set(~numbers.is_finite() | (numbers.abs() > TIMESTAMP_LIMIT_SECONDS), TIMESTAMP_LIMIT_SECONDS + 1)
    microseconds = (numbers * MICROSECONDS_PER_SECOND).round().cast(pl.Int64)
    if column.dtype != pl.String or not microseconds.null_count():
        return microseconds
    texts = column.filter(microseconds.is_null() & column.is_not_null()).unique()
    parsed = pl.DataFrame({"text": texts, "parsed": [_iso_microseconds(text) for text in texts]},
                          schema={"text": pl.String, "parsed": pl.Int64})  # fmt: skip
    joined = column.rename("text").to_frame().join(parsed, on="text", how="left", maintain_order="left")
    return joined.select(pl.coalesce(microseconds.rename("microseconds"), pl.col("parsed"))).to_series()


def _iso_microseconds(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * MICROSECONDS_PER_SECOND)
