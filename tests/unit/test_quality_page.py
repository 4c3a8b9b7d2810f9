"""Every table of figures in docs/quality*.md shows what docs/quality.json or docs/ablations.json holds.

A comment above each table names the source of its figures:

    quality.json: PLACE               rows and columns are named like the keys at that place
    quality.json: by row              the same, where ROW_PLACES has the place of each row
    quality.json: gain_of_ranking     cells with their intervals; ROW_PLACES has the section of each row
    quality.json: calibration         tenths of the candidates; rows are "`preset`: predicted" or "... actual"
    ablations.json: kuairand-...      rows are hidden layers
    published                         figures of others, which no file of this repository holds

Tables of words have no comment; their first heading is in TABLES_OF_WORDS.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"
FIGURES = json.loads((DOCS / "quality.json").read_text())
STUDIES = json.loads((DOCS / "ablations.json").read_text())["studies"]

TABLE = re.compile(r"(?:<!-- (.+) -->\n\n)?((?:^\|.*\n)+)", re.MULTILINE)
FIGURE = re.compile(r"[+-]?\d*\.?\d+")
TABLES_OF_WORDS = {"baseline", "metric", "part", "change", "way"}

ROW_PLACES = {
    "last watch of each user held out: EASE": "movielens_1m.test.ease",
    "the same: succession-knn, which is counted, not trained": "movielens_1m_demo.test.succession_knn",
    "the same: preset `demo`": "movielens_1m_demo.test.chain",
    "the same: preset `order`, which reads only the order of watches": "movielens_1m_order.test.chain",
    "the same: preset `record`, which also reads times and ratings": "movielens_1m.test.chain",
    "split at a point in time: EASE": "movielens_1m_time_split.test.ease",
    "split at a point in time: preset `demo`": "movielens_1m_time_split.test.chain",
    "candidate stage: `record`": "movielens_1m.test.candidate",
    "chain: `record`": "movielens_1m.test.chain",
    "`record`, validation": "movielens_1m.validation",
    "`record`, test": "movielens_1m.test",
    "`order`, validation": "movielens_1m_order.validation",
    "`order`, test": "movielens_1m_order.test",
    "`demo`, validation": "movielens_1m_demo.validation",
    "`demo`, test": "movielens_1m_demo.test",
    "`demo` without neighbours, five examples a user, validation": "ranking_features.validation.without",
    "the same, test": "ranking_features.test.without",
    "the same with continuous features, validation": "ranking_features.validation.with",
    "the same with continuous features, test": "ranking_features.test.with",
    "`demo`, ties by a hash, validation": "movielens_1m_demo_hashed_ties.validation",
    "`demo`, ties by a hash, test": "movielens_1m_demo_hashed_ties.test",
    "`demo`, global time, validation": "movielens_1m_time_split.validation",
    "`demo`, global time, test": "movielens_1m_time_split.test",
}
# What was aimed at is not measured.
TARGET_ROWS = {"candidate stage: target", "chain: target"}
SECTIONS = {"`record`": "movielens_1m", "`demo`": "movielens_1m_demo"}
OBJECTIVES = {
    "unweighted": "unweighted",
    "weighted": "weighted by watch time, calibrated",
    "256, the paper's form": "weighted by watch time, the paper's form",
    "no network": "the item's mean watch time",
}


class Table:
    """One table of the page."""

    def __init__(self, source: str, lines: str) -> None:
        self.source = source
        cells = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in lines.splitlines()]
        self.headings, self.rows = cells[0], cells[2:]

    def cells(self) -> Iterator[tuple[str, str, str]]:
        """Row, heading and text of every cell but the first of each row and the empty ones."""
        for row in self.rows:
            for heading, cell in zip(self.headings[1:], row[1:], strict=True):
                if cell:
                    yield row[0], heading, cell


TABLES = [Table(*found) for page in sorted(DOCS.glob("quality*.md")) for found in TABLE.findall(page.read_text())]


def tables_of(source: str) -> list[Table]:
    found = [table for table in TABLES if table.source == source]
    assert found, f"no table of docs/quality*.md names {source}"
    return found


def key(heading: str) -> str:
    return heading.lower().replace("@", "_at_").replace(" ", "_").replace("-", "_")


def at(place: str) -> Any:
    found = FIGURES
    for part in place.split("."):
        found = found[part]
    return found


def assert_shows(cell: str, *figures: float, scale: float = 1.0) -> None:
    """The cell shows these figures, each to the digits that it prints."""
    shown = FIGURE.findall(cell)
    assert len(shown) == len(figures), cell
    for text, figure in zip(shown, figures, strict=True):
        half_a_digit = 0.5 * 10 ** -len(text.partition(".")[2])
        assert float(text) == pytest.approx(scale * figure, abs=1.1 * half_a_digit), cell


def assert_row_shows(figures: dict[str, float], heading: str, cell: str) -> None:
    """The cell shows the figure of this name, and half the width of its interval where it has one."""
    by_key = {key(name): figure for name, figure in figures.items()}
    name = key(heading)
    if "±" in cell:
        assert_shows(cell, by_key[name], (by_key[f"{name}_high"] - by_key[f"{name}_low"]) / 2)
    else:
        assert_shows(cell, by_key[name])


def ablation(study: str, hidden_layers: str, objective: str) -> dict[str, float]:
    wanted = {"hidden layers": hidden_layers, "logistic regression": objective}
    (found,) = [cell for cell in STUDIES[study]["cells"] if cell["labels"] == wanted]
    figures: dict[str, float] = found["figures"]
    return figures


def test_every_table_of_figures_names_its_source() -> None:
    without = [table for table in TABLES if not table.source]
    assert {table.headings[0] for table in without} <= TABLES_OF_WORDS
    assert len(TABLES) - len(without) > 20


def test_every_section_of_the_file_is_shown() -> None:
    sources = {table.source for table in TABLES}
    shown = {source.removeprefix("quality.json: ").partition(".")[0] for source in sources}
    assert set(FIGURES) - shown == {"kuairand"}, "kuairand's own tables are those of ablations.json"


@pytest.mark.parametrize(
    "source", sorted({table.source for table in TABLES if re.match(r"quality\.json: \w+\.", table.source)})
)
def test_a_table_shows_what_the_file_holds(source: str) -> None:
    rows = {key(name): figures for name, figures in at(source.removeprefix("quality.json: ")).items()}
    for table in tables_of(source):
        for row, heading, cell in table.cells():
            assert_row_shows(rows[key(row)], heading, cell)


def test_a_table_of_several_sections_shows_what_the_file_holds() -> None:
    for table in tables_of("quality.json: by row"):
        for row, heading, cell in table.cells():
            if row not in TARGET_ROWS:
                assert_row_shows(at(ROW_PLACES[row]), heading, cell)


def test_gains_of_ranking_are_shown_with_their_intervals() -> None:
    for table in tables_of("quality.json: gain_of_ranking"):
        for row, heading, cell in table.cells():
            gain, name = at(ROW_PLACES[row])["gain_of_ranking"], key(heading)
            assert_shows(cell, gain[name], gain[f"{name}_low"], gain[f"{name}_high"])


def test_calibration_is_shown_in_percent() -> None:
    for table in tables_of("quality.json: calibration"):
        for row, heading, cell in table.cells():
            preset, _, name = row.partition(": ")
            tenth = at(SECTIONS[preset])["test"]["calibration"][int(heading) - 1]
            assert_shows(cell, tenth[name], scale=100)


def test_losses_by_hidden_layers_are_those_of_the_ablation() -> None:
    (table,) = tables_of("ablations.json: kuairand-table-1")
    for row, heading, cell in table.cells():
        if heading == "paper":
            continue
        weighting, figure, part = re.fullmatch(r"(weighted|unweighted): (loss|AUC), (\w+)", heading).groups()  # type: ignore[union-attr]
        layers, _, objective = row.partition(": ")
        figures = ablation("kuairand-table-1", layers, objective or OBJECTIVES[weighting])
        name = {"loss": "weighted_per_user_loss", "AUC": "auc_by_user"}[figure]
        assert_shows(cell, figures[f"{part}_{name}"])


def test_expected_over_actual_watch_time_is_that_of_the_ablation() -> None:
    (table,) = tables_of("ablations.json: kuairand-calibration")
    for row, heading, cell in table.cells():
        layers = row.partition(",")[0]
        figures = ablation("kuairand-calibration", layers, OBJECTIVES.get(row, OBJECTIVES["weighted"]))
        name = "test_expected_over_actual" + ("" if heading == "all" else f"_decile_{heading}")
        assert_shows(cell, figures[name])
