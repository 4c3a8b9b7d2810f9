"""Reads the optional items file: item_id, title, and any further columns as text for display."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from winnow.training.tables import InputTable
from winnow.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class ItemDescriptions:
    """What a person is shown of the I items, by row: a title each, and further attributes that have a value."""

    titles: Sequence[str]
    attributes: Sequence[Mapping[str, str]]


def read_items(path: Path | None, vocabulary: Vocabulary) -> ItemDescriptions:
    """Describe the items of the vocabulary; an item that the file does not know, or all without a file, by its id.

    Raises InteractionLogError that names the file, the column and the first offending line.
    """
    item_ids = vocabulary.item_ids(np.arange(len(vocabulary), dtype=np.int32))
    if path is None:
        return ItemDescriptions(titles=item_ids, attributes=[{} for _ in item_ids])
    table = InputTable.read(path)
    ids = table.text("item_id")
    table.check("item_id", ids.is_first_distinct(), "stands twice")
    titles = dict(zip(ids, table.text("title"), strict=True))
    further = [name for name in table.columns if name not in ("item_id", "title")]
    columns = [table.frame[name].cast(pl.String, strict=False).to_list() for name in further]
    attributes = {
        id_: {name: value for name, value in zip(further, values, strict=True) if value}
        for id_, *values in zip(ids, *columns, strict=True)
    }
    return ItemDescriptions(
        titles=[titles.get(id_, id_) for id_ in item_ids], attributes=[attributes.get(id_, {}) for id_ in item_ids]
    )
