"""The filters on docs/filters.md are filters."""

import re
from pathlib import Path

import pytest

from winnow.catalogue.filters.checker import read_filter
from winnow.catalogue.filters.compiler import compile_filter
from winnow.catalogue.inference import build_attributes, choose_types, parse_types

PAGE = (Path(__file__).parents[4] / "docs" / "filters.md").read_text()
TYPES = parse_types(
    "country:text, title:text, category:text, sku:text, brand:text, genres:list, year:number, price:number, "
    "score:number, release year:number, added:timestamp, adult:boolean"
)
COLUMNS = {name: [None, None] for name in TYPES}
ITEMS = build_attributes(COLUMNS, choose_types(COLUMNS, TYPES), 2)


def filters_in(heading: str) -> list[str]:
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [line.split(" | ")[0] for line in section.splitlines() if line.startswith("| `")]
    return [found for row in rows for found in re.findall(r"`([^`]+)`", row)]


@pytest.mark.parametrize("text", filters_in("Examples"))
def test_every_example_can_be_read(text: str) -> None:
    read_filter(text, ITEMS.schema)


def test_the_table_of_missing_values_is_true() -> None:
    for text in filters_in("Missing values"):
        matches = compile_filter(read_filter(text, ITEMS.schema), ITEMS).match_count == 2
        assert matches == text.startswith("NOT")
