"""The tables of docs/quality.md that name their place in docs/quality.json show what stands there.

Such a table follows a line `<!-- quality.json: movielens_1m.test -->`; its rows and columns are named like the keys.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"
FIGURES = json.loads((DOCS / "quality.json").read_text())
TABLE = re.compile(r"<!-- quality\.json: (\S+) -->\n+((?:\|.*\n)+)")


def key(heading: str) -> str:
    return heading.lower().replace("@", "_at_").replace(" ", "_").replace("-", "_")


def at(place: str) -> Any:
    found = FIGURES
    for part in place.split("."):
        found = found[part]
    return found


def cells() -> Iterator[tuple[str, str, str, str]]:
    for place, table in TABLE.findall((DOCS / "quality.md").read_text()):
        lines = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()]
        for row in lines[2:]:
            for heading, cell in zip(lines[0][1:], row[1:], strict=True):
                yield place, key(row[0]), key(heading), cell


@pytest.mark.parametrize(("place", "row", "column", "cell"), list(cells()))
def test_a_table_shows_what_the_file_holds(place: str, row: str, column: str, cell: str) -> None:
    shown = re.match(r"[+-]?\d*\.(\d+)", cell)
    assert shown, f"{cell!r} is not a figure"
    half_a_digit = 0.5 * 10 ** -len(shown.group(1))
    figures = {key(name): found for name, found in at(place).items()}
    assert float(shown.group()) == pytest.approx(figures[row][column], abs=1.1 * half_a_digit)
