"""Reads the optional items file: item_id, title and further columns, to show to people and to learn from.

Shape legend: I items.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from winnow.catalogue.item_facts import ItemFacts
from winnow.catalogue.vocabulary import Vocabulary
from winnow.logs.fingerprint import fingerprint
from winnow.logs.input_table import InputTable
from winnow.logs.timestamps import MICROSECONDS_PER_SECOND, read_microseconds


@dataclass(frozen=True, kw_only=True)
class ItemDescriptions:
    """What people are shown of the I items, by row: the title, and the attributes that have a value."""

    titles: Sequence[str]
    attributes: Sequence[Mapping[str, str]]


def read_items(path: Path | None, vocabulary: Vocabulary) -> ItemDescriptions:
    """Return title and attributes of each item of the vocabulary; the title is the id where the file has none.

    Raises InputFileError that names the file, the column and the first line at fault.
    """
    item_ids = vocabulary.item_ids(np.arange(len(vocabulary), dtype=np.int32))
    if path is None:
        return ItemDescriptions(titles=item_ids, attributes=[{} for _ in item_ids])
    table = InputTable.read(path)
    ids = table.item_ids()
    table.check("item_id", ids.is_first_distinct(), "occurs twice")
    titles = dict(zip(ids, table.text("title"), strict=True))
    further = [name for name in table.frame.columns if name not in ("item_id", "title")]
    columns = [table.frame[name].cast(pl.String, strict=False).to_list() for name in further]
    attributes = {
        id_: {name: value for name, value in zip(further, values, strict=True) if value}
        for id_, *values in zip(ids, *columns, strict=True)
    }
    return ItemDescriptions(
        titles=[titles.get(id_, id_) for id_ in item_ids], attributes=[attributes.get(id_, {}) for id_ in item_ids]
    )


def read_item_facts(path: Path | None, vocabulary: Vocabulary, popularity: NDArray[np.float32]) -> ItemFacts:
    """Return what ranking features know of the items: the columns author, category, uploaded, duration_seconds.

    All of them are optional. The first two are text, `uploaded` is a timestamp as in a log. `popularity`, float32 [I],
    is each item's share of the watches. Raises InputFileError that names the file, the column and the first line at
    fault.
    """
    if path is None:
        return ItemFacts.unknown(popularity)
    table = InputTable.read(path)
    found: dict[str, pl.Series] = {"item_id": table.item_ids()}
    for name in ("author", "category"):
        if name in table.frame.columns:
            texts = table.column(name).cast(pl.String)
            found[name] = texts.replace("", None).rank("dense").cast(pl.Int32) - 1
    if "uploaded" in table.frame.columns:
        found["uploaded"] = read_microseconds(table, "uploaded", optional=True) // MICROSECONDS_PER_SECOND
    if "duration_seconds" in table.frame.columns:
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
