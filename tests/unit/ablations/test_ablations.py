"""Studies of tiny cells are measured once, kept and reported; the published page is what the code writes."""

import json
from collections.abc import Mapping
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from ablations.movielens import CandidateLog, grid, longer, one_at_a_time
from ablations.runner import Cell, GridPlot, ResultFolder, Study, finished_cells, measure_all
from ablations.study_page import page, write
from tests.unit.ablations.published import DOCS, PUBLISHED, assert_published_in_these_words
from tests.unit.training.planted import write_planted_log
from tests.unit.training.settings import TINY
from winnow.logs.interactions import read_interactions

CONSOLE = Console(file=StringIO())
MACHINE = {"cores": 2, "processor": "a processor", "packages": {"torch": "2"}}


@pytest.fixture
def results(tmp_path: Path) -> ResultFolder:
    return ResultFolder(tmp_path / "results")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> CandidateLog:
    path = tmp_path_factory.mktemp("log") / "log.csv"
    write_planted_log(path)
    interactions = read_interactions(path, vocabulary_size=100, min_item_count=1)
    columns = {"genres": [f"Genre {row % 3}" for row in range(len(interactions.vocabulary))]}
    return CandidateLog(interactions=interactions, columns=columns, console=CONSOLE)


def counting(name: str, calls: list[str], settings: Mapping[str, object]) -> Cell:
    def measure(scratch: Path) -> Mapping[str, float]:
        assert scratch.is_dir()
        calls.append(name)
        return {"hr": len(calls) / 10}

    depth, feature = name.split("-")
    return Cell(name=name, labels={"depth": depth, "features": feature}, settings=settings, measure=measure)


def study(cells: list[Cell], name: str = "study") -> Study:
    plots = [GridPlot(across="depth", lines="features", figure="hr")]
    return Study(name=name, title="A study", about="About it.", figures={"hr": "HR"}, cells=cells, plots=plots)


def test_a_finished_cell_is_measured_again_only_for_other_settings(results: ResultFolder) -> None:
    calls: list[str] = []
    first = study([counting("0-a", calls, {"epochs": 1}), counting("1-a", calls, {"epochs": 3})])
    measure_all([first], results, CONSOLE)
    measure_all([first], results, CONSOLE)
    assert calls == ["0-a", "1-a"]
    changed = study([counting("0-a", calls, {"epochs": 2}), counting("1-a", calls, {"epochs": 3})])
    assert [finished.cell.name for finished in finished_cells(changed, results)] == ["1-a"]
    measure_all([changed], results, CONSOLE)
    assert calls == ["0-a", "1-a", "0-a"]


def test_cells_of_equal_settings_are_measured_once(results: ResultFolder) -> None:
    calls: list[str] = []
    equal = study([counting("0-a", calls, {"epochs": 1}), counting("1-a", calls, {"epochs": 1})])
    measure_all([equal], results, CONSOLE)
    assert len(calls) == 1
    assert [finished.figures for finished in finished_cells(equal, results)] == [{"hr": 0.1}, {"hr": 0.1}]


def test_names_are_unique(results: ResultFolder) -> None:
    with pytest.raises(ValueError, match="cells with the same name"):
        measure_all([study([counting("0-a", [], {}), counting("0-a", [], {})])], results, CONSOLE)


def test_a_study_stays_in_the_report_until_it_is_measured_again(results: ResultFolder, tmp_path: Path) -> None:
    one, other = (
        study([counting(f"{depth}-a", calls, {"study": name, "depth": depth}) for depth in range(2)], name)
        for name, calls in (("one", list[str]()), ("other", list[str]()))
    )
    for each in (one, other):
        measure_all([each], results, CONSOLE)
        write(tmp_path / "docs", [(each, finished_cells(each, results))], MACHINE)
    written = json.loads((tmp_path / "docs/ablations.json").read_text())
    assert list(written["studies"]) == ["one", "other"]
    assert written["studies"]["one"]["cells"][1]["figures"] == {"hr": 0.2}
    page = (tmp_path / "docs/ablations.md").read_text()
    assert page.count("| 1 | a | 0.2000 |") == 2
    for name in ("one", "other"):
        assert f"(ablations/{name}-hr.png)" in page
        assert (tmp_path / f"docs/ablations/{name}-hr.png").stat().st_size > 0


def test_published_figures_are_kept_under_new_words_while_the_settings_are_the_same(
    results: ResultFolder, tmp_path: Path
) -> None:
    made = study([counting(f"{depth}-a", [], {"depth": depth}) for depth in range(2)])
    measure_all([made], results, CONSOLE)
    write(tmp_path, [(made, finished_cells(made, results))], MACHINE)
    reworded = replace(
        made, title="Another title", cells=[made.cells[0], replace(made.cells[1], settings={"depth": 3})]
    )
    write(tmp_path, [(reworded, [])], MACHINE | {"processor": "another processor"})
    written = (tmp_path / "ablations.md").read_text()
    assert "## Another title" in written
    assert "| 0 | a | 0.1000 |" in written
    assert "| 1 | a |" not in written, "figures of other settings are not shown as those of the cell"
    assert "1 of 2 planned rows have been measured so far." in written
    assert "another processor" not in written


def test_the_published_page_is_written_from_the_published_figures() -> None:
    assert (DOCS / "ablations.md").read_text() == page(PUBLISHED)


def test_the_published_page_has_the_words_of_the_code(log: CandidateLog) -> None:
    for made in (grid(log, 2), one_at_a_time(log, 2)):
        assert_published_in_these_words(made)


def test_candidate_networks_are_trained_and_evaluated(log: CandidateLog, results: ResultFolder, tmp_path: Path) -> None:
    cell = log.cell(
        "tiny",
        {"features": "tiny"},
        replace(TINY.candidate, n_hidden_layers=0, attribute_columns=("genres",)),
        epochs=3,
    )
    made = Study(name="planted", title="Planted", about="", figures={"test_hr_at_10": "HR@10"}, cells=[cell])
    measure_all([made], results, CONSOLE)
    [finished] = finished_cells(made, results)
    # Ten of forty items by chance.
    assert finished.figures["test_hr_at_10"] > 0.4
    assert not results.scratch(cell).exists()


def test_every_movielens_cell_can_be_built(log: CandidateLog) -> None:
    cells = [cell for made in (grid(log, 2), one_at_a_time(log, 2), longer(log, 8)) for cell in made.cells]
    assert len({cell.fingerprint for cell in cells}) > 40
