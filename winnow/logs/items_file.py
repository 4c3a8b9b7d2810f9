"""Reads the optional items file: item_id, title and further columns, to show, to filter by and to learn from.

Shape legend: I items.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from winnow.catalogue.attributes import Attributes
from winnow.catalogue.inference import ColumnType, build_attributes, choose_types
from winnow.catalogue.item_facts import ItemFacts
from winnow.catalogue.items import TITLE
from winnow.catalogue.schema import AttributeType, AttributeValueError
from winnow.catalogue.vocabulary import Vocabulary
from winnow.logs.fingerprint import fingerprint
from winnow.logs.input_table import InputFileError, InputTable
from winnow.logs.log_format import PLAIN_LOG, LogFormat
from winnow.logs.timestamps import MICROSECONDS_PER_SECOND, read_microseconds

NO_TYPES: Mapping[str, AttributeType | None] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class ItemDescriptions:
    """What the items file says of I items, by row."""

    columns: Mapping[str, Sequence[object]]
    """The further columns as they are in the file; None where the file has no value, or not the item."""
    types: Mapping[str, ColumnType]
    """Their types as attributes."""
    attributes: Attributes
    """The title, if there is a file, and the further columns that have a type."""


def read_items(
    path: Path | None,
    vocabulary: Vocabulary,
    types: Mapping[str, AttributeType | None] = NO_TYPES,
    log_format: LogFormat = PLAIN_LOG,
) -> ItemDescriptions:
    """Read what is known of each item of the vocabulary.

    `types` gives columns their types, None leaves one out; the types of other columns are inferred from all of their
    values. Ids may be called item_id or as they are in the log. Raises InputFileError that names the file, the column
    and, where there is one, the first line at fault; also where the file has none of the items.
    """
    if path is None:
        if types:
            raise InputFileError("types of attributes are given, but no items file")
        return ItemDescriptions(columns={}, types={}, attributes=Attributes({}, len(vocabulary)))
    table = items_table(path, log_format)
    ids = table.item_ids()
    table.check("item_id", ids.is_first_distinct(), "occurs twice")
    titles = table.text("title").to_list()
    described = [table.find("item_id"), table.find("title")]
    further = {name: column_values(table.frame[name]) for name in table.frame.columns if name not in described}
    line_of = {item_id: line for line, item_id in enumerate(ids)}
    lines = [line_of.get(item_id) for item_id in vocabulary.item_ids(range(len(vocabulary)))]
    if all(line is None for line in lines):
        [known] = vocabulary.item_ids([0])
        raise InputFileError(
            f"{path}: column {described[0]}: no id is an item of the log; the ids are like {ids[0]!r}, those of the "
            f"log like {known!r}"
        )

    def by_row(values: Sequence[object]) -> list[object]:
        return [None if line is None else values[line] for line in lines]

    columns = {name: by_row(values) for name, values in further.items()}
    try:
        chosen = choose_types(further, types)
        attributes = build_attributes(
            {TITLE: by_row(titles), **columns},
            {TITLE: ColumnType(type=AttributeType.TEXT, reason="the title"), **chosen},
            len(vocabulary),
        )
    except AttributeValueError as error:
        # Only rows that are in the file have a value.
        raise table.error(error.attribute, lines[error.row] or 0, error.reason) from None
    except ValueError as error:
        raise InputFileError(f"{path}: {error}") from None
    return ItemDescriptions(columns=columns, types=chosen, attributes=attributes)


def items_table(path: Path, log_format: LogFormat) -> InputTable:
    """Read an items file, whose ids are called item_id or as in the log."""
    title = {"title": log_format.title_column}
    table = InputTable.read(path, {"item_id": log_format.item_column, **title})
    table = table if table.find("item_id") else replace(table, names=title)
    if table.find("title") is None:
        columns = ", ".join(table.frame.columns)
        raise InputFileError(
            f"{path}: column {log_format.title_column} is missing; the file has {columns} (--title-column)"
        )
    return table


def column_values(column: pl.Series) -> list[Any]:
    """The values of a column as Python has them."""
    if column.dtype.is_decimal():
        return column.cast(pl.Float64).to_list()
    return column.to_list()


def read_item_facts(
    path: Path | None,
    vocabulary: Vocabulary,
    popularity: NDArray[np.float32],
    log_format: LogFormat = PLAIN_LOG,
) -> ItemFacts:
    """Return what ranking features know of the items: the columns author, category, uploaded, duration_seconds.

    All of them are optional. The first two are text, `uploaded` is a timestamp as in a log. `popularity`, float32 [I],
    is each item's share of the watches. Raises InputFileError that names the file, the column and the first line at
    fault.
    """
    if path is None:
        return ItemFacts.unknown(popularity)
    table = items_table(path, log_format)
    found: dict[str, pl.Series] = {"item_id": table.item_ids()}
    for name in ("author", "category"):
        if table.find(name):
            texts = table.column(name).cast(pl.String)
            found[name] = texts.replace("", None).rank("dense").cast(pl.Int32) - 1
    if table.find("uploaded"):
        found["uploaded"] = read_microseconds(table, "uploaded", optional=True) // MICROSECONDS_PER_SECOND
    if table.find("duration_seconds"):
        found["duration_seconds"] = table.numbers("duration_seconds", optional=True)
    item_ids = pl.Series("item_id", vocabulary.item_ids(range(len(vocabulary))))
    facts = item_ids.to_frame().join(pl.DataFrame(found), on="item_id", how="left", maintain_order="left")
    unknown = ItemFacts.unknown(popularity)

    def column(name: str, otherwise: NDArray[Any]) -> NDArray[Any]:
        if name not in facts.columns:
            return otherwise
        return facts[name].fill_null(otherwise[0].item()).to_numpy().astype(otherwise.dtype)

    return ItemFacts(
        authors=column("author", unknown.authors),
        categories=column("category", unknown.categories),
        uploaded=column("uploaded", unknown.uploaded),
        durations=column("duration_seconds", unknown.durations),
        popularity=popularity,
    )


def facts_fingerprint(facts: ItemFacts) -> str:
    """Return a SHA-256 of the facts of all items."""
    return fingerprint(*(getattr(facts, field.name) for field in fields(facts)))
