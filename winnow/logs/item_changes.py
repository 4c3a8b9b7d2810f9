"""Reads what `winnow items` is to change in a release: an items file, and lists of item ids."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from winnow.catalogue.attributes import Attributes
from winnow.catalogue.inference import build_attributes, choose_types
from winnow.catalogue.items import TITLE
from winnow.catalogue.schema import AttributeValueError, Schema
from winnow.catalogue.vocabulary import Vocabulary
from winnow.logs.input_table import NO_NAMES, InputFileError, InputTable
from winnow.logs.items_file import column_values


@dataclass(frozen=True, kw_only=True, eq=False)
class ItemChanges:
    """What is new about N items of a release. New items have the rows after those of the release."""

    rows: NDArray[np.int64]
    """[N], none twice."""
    new_item_ids: Sequence[str]
    """In the order of their rows."""
    attributes: Attributes
    """Of these items: the attributes that the file has columns for. No value there is no value from now on."""


def no_changes() -> ItemChanges:
    """Nothing is new."""
    return ItemChanges(rows=np.empty(0, dtype=np.int64), new_item_ids=(), attributes=Attributes({}, 0))


def read_item_changes(
    path: Path,
    vocabulary: Vocabulary,
    schema: Schema,
    *,
    retiring: Collection[str],
    takes_new_items: bool,
    names: Mapping[str, str] = NO_NAMES,
) -> ItemChanges:
    """Read a file of items: `item_id`, and columns that the attributes of the release are called like.

    `names` says what the file calls item_id and title, where that differs.
    Values have to be of the types of the release's attributes. Raises InputFileError that names the file, the column
    and the first line at fault: for an id that occurs twice or is among those that are `retiring`, for an id that the
    release does not know unless it `takes_new_items`, for a column that is no attribute, and for a value of another
    type.
    """
    table = InputTable.read(path, names)
    ids = table.item_ids()
    table.check("item_id", ids.is_first_distinct(), "occurs twice")
    table.check("item_id", ~ids.is_in(list(retiring)), "is to be retired and changed at once")
    is_new = pl.Series([item_id not in vocabulary for item_id in ids], dtype=pl.Boolean)
    if not takes_new_items:
        reason = "is a new item, and the release was trained without --new-items-by: it has no vectors for new items"
        table.check("item_id", ~is_new, reason)
    id_column, title_column = table.find("item_id"), table.find(TITLE)
    column_of = {
        TITLE if column == title_column else column: column for column in table.frame.columns if column != id_column
    }
    for name in column_of:
        if name not in schema:
            raise InputFileError(
                f"{path}: column {name}: the release has no attribute of this name, only {', '.join(schema) or 'none'}"
            )
    if not column_of and not is_new.any():
        raise InputFileError(f"{path}: column item_id stands alone, and no item is new: nothing would change")
    if title_column is not None:
        table.text(TITLE)
    columns = {name: column_values(table.frame[column]) for name, column in column_of.items()}
    try:
        types = choose_types(columns, {name: schema[name].type for name in column_of})
        attributes = build_attributes(columns, types, table.frame.height)
    except AttributeValueError as error:
        raise table.error(error.attribute, error.row, error.reason) from None
    except ValueError as error:
        raise InputFileError(f"{path}: {error}") from None
    new_item_ids = ids.filter(is_new).to_list()
    rows = np.empty(len(ids), dtype=np.int64)
    rows[is_new.to_numpy()] = len(vocabulary) + np.arange(len(new_item_ids))
    rows[~is_new.to_numpy()] = vocabulary.rows(ids.filter(~is_new))[0]
    return ItemChanges(rows=rows, new_item_ids=new_item_ids, attributes=attributes)


def read_item_ids(path: Path, vocabulary: Vocabulary, names: Mapping[str, str] = NO_NAMES) -> list[str]:
    """Read the column `item_id` of a file, or what `names` says it is called there.

    Raises InputFileError for an id that is unknown or occurs twice.
    """
    table = InputTable.read(path, names)
    ids = table.item_ids()
    table.check("item_id", ids.is_first_distinct(), "occurs twice")
    known = pl.Series([item_id in vocabulary for item_id in ids], dtype=pl.Boolean)
    table.check("item_id", known, "is not an item of the release")
    return ids.to_list()
