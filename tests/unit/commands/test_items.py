"""`winnow items`: files and ids become a release, and what is wrong with them is said by file, column and line."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
import typer
from typer.testing import CliRunner, Result

from tests.releases import ITEM_COUNT, item_id, write_random_release
from winnow.commands.items import items
from winnow.release.reader import current_release_id, open_current_release, open_release

app = typer.Typer()
app.command()(items)


def run(releases: Path, *arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["--releases", str(releases), *map(str, arguments)])


@pytest.fixture
def releases(tmp_path: Path) -> Path:
    directory = tmp_path / "releases"
    write_random_release(directory, takes_new_items=True)
    return directory


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_csv_file_changes_and_adds_items(releases: Path, tmp_path: Path) -> None:
    file = written(
        tmp_path / "changed.csv",
        "item_id,title,year,genres,added,adult\n"
        f"{item_id(0)},Other title,,Drama|Western,2024-05-01,false\n"
        "new film,New,2030,Comedy,,true\n",
    )
    base = current_release_id(releases)
    result = run(releases, "--items", file, "--retire", item_id(4), "--publish")
    assert result.exit_code == 0, result.output
    assert "1 items changed, 1 added, 1 are retired" in result.output
    release_id = current_release_id(releases)
    assert f"Release {release_id} is current" in result.output
    release = open_release(releases / release_id)
    assert release.manifest.derived_from == base
    attributes = release.attributes()
    assert attributes["title"][0] == "Other title"
    # An empty cell takes the value away; a column that is not in the file keeps its values.
    assert attributes["year"][0] is None
    assert attributes["country"][1] == "FR"
    assert attributes["genres"][0] == ["Drama", "Western"]
    assert attributes["added"][0] == datetime(2024, 5, 1, tzinfo=UTC)
    row = release.vocabulary().rows(["new film"])[0][0]
    assert row == ITEM_COUNT
    assert (attributes["year"][row], attributes["genres"][row], attributes["country"][row]) == (2030, ["Comedy"], None)
    assert release.retired().tolist() == [4]


def test_a_parquet_file_keeps_its_types(releases: Path, tmp_path: Path) -> None:
    frame = pl.DataFrame({"item_id": [item_id(3)], "genres": [["Drama", "War"]], "adult": [True], "year": [1800]})
    frame.write_parquet(tmp_path / "changed.parquet")
    assert run(releases, "--items", tmp_path / "changed.parquet", "--publish").exit_code == 0
    attributes = open_current_release(releases).attributes()
    assert (attributes["genres"][3], attributes["adult"][3], attributes["year"][3]) == (["Drama", "War"], True, 1800)


def test_without_publish_the_release_is_made_but_not_current(releases: Path) -> None:
    before = current_release_id(releases)
    result = run(releases, "--retire", item_id(1))
    assert result.exit_code == 0, result.output
    assert "was made in" in result.output
    assert current_release_id(releases) == before
    assert len(list(releases.glob("*/manifest.json"))) == 2


def test_items_are_retired_and_restored_from_files(releases: Path, tmp_path: Path) -> None:
    ids = written(tmp_path / "ids.csv", f"item_id\n{item_id(8)}\n{item_id(12)}\n")
    assert run(releases, "--retire-from", ids, "--publish").exit_code == 0
    assert open_current_release(releases).retired().tolist() == [8, 12]
    assert run(releases, "--restore", item_id(12), "--publish").exit_code == 0
    assert open_current_release(releases).retired().tolist() == [8]


def test_files_may_call_their_columns_otherwise(releases: Path, tmp_path: Path) -> None:
    changed = written(tmp_path / "changed.csv", f"sku;name;year\n{item_id(3)};Neu;1999\n")
    gone = written(tmp_path / "gone.csv", f"SKU\n{item_id(8)}\n")
    names = ["--item-column=sku", "--title-column=Name"]
    result = run(releases, "--items", changed, "--retire-from", gone, *names, "--publish")
    assert result.exit_code == 0, result.output
    release = open_current_release(releases)
    assert (release.attributes()["title"][3], release.attributes()["year"][3]) == ("Neu", 1999)
    assert release.retired().tolist() == [8]
    result = run(releases, "--items", changed)
    assert result.exit_code == 1
    assert "column item_id is missing; the file has sku, name, year" in result.output


def test_another_release_than_the_current_one_is_changed(releases: Path) -> None:
    first = current_release_id(releases)
    second = write_random_release(releases, seed=4)
    result = CliRunner().invoke(app, ["--release", str(releases / first), "--retire", item_id(1)])
    assert result.exit_code == 0, result.output
    made = [path.parent.name for path in releases.glob("*/manifest.json")]
    [derived] = set(made) - {first, second}
    assert open_release(releases / derived).manifest.derived_from == first


BAD_FILES = {
    "is empty": ("", "changed.csv is empty"),
    "has no rows": ("item_id,year\n", "changed.csv has no rows"),
    "has no ids": ("id,year\nx,1\n", "column item_id is missing; the file has id, year"),
    "repeats an id": ("item_id,year\na,1\nb,2\na,3\n", "column item_id, line 4: 'a' occurs twice"),
    "has an empty id": ("item_id,year\na,1\n,2\n", "column item_id, line 3: the value is missing"),
    "has a long id": (f"item_id,year\n{'x' * 600},1\n", "is longer than 512 bytes"),
    "has an unknown column": (
        "item_id,yeer\na,1\n",
        "column yeer: the release has no attribute of this name, only title, year, genres, country, added, adult",
    ),
    "has a wrong number": ("item_id,year\na,1\nb,soon\n", "column year, line 3: 'soon' is not a number"),
    "has a wrong moment": ("item_id,added\na,tomorrow\n", "column added, line 2: 'tomorrow' is not a timestamp"),
    "has a wrong boolean": ("item_id,adult\na,maybe\n", "column adult, line 2: 'maybe' is neither true nor false"),
    "has an empty title": ("item_id,title\na,A\nb,\n", "column title, line 3: the value is missing"),
    "changes what is retired": (
        f"item_id,year\na,1\n{item_id(3)},2\n",
        "column item_id, line 3: '3' is to be retired and changed at once",
    ),
    "changes nothing": (f"item_id\n{item_id(4)}\n", "column item_id stands alone"),
    "is malformed": ("item_id,year\na,1,2\n", "line 2: 3 values, but the header has 2"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_cannot_be_used_is_explained_and_nothing_is_written(
    releases: Path, tmp_path: Path, name: str
) -> None:
    text, message = BAD_FILES[name]
    file = written(tmp_path / "changed.csv", text)
    before = {path.name for path in releases.iterdir()}
    result = run(releases, "--items", file, "--retire", item_id(3), "--publish")
    assert result.exit_code == 1
    assert message in result.output
    assert str(file) in result.output
    assert "Traceback" not in result.output
    assert {path.name for path in releases.iterdir()} == before


def test_a_parquet_column_that_is_no_attribute_is_explained(releases: Path, tmp_path: Path) -> None:
    file = tmp_path / "changed.parquet"
    for values, message in [
        ([{"a": 1}], "column country, row 1: {'a': 1} is not a text"),
        ([b"x"], "column country, row 1: b'x' is not a text"),
        ([["x"]], "column country, row 1: ['x'] is not a text"),
    ]:
        pl.DataFrame({"item_id": [item_id(1)], "country": values}).write_parquet(file)
        result = run(releases, "--items", file)
        assert result.exit_code == 1
        assert message in result.output
    pl.DataFrame({"item_id": [item_id(1)], "genres": ["x"], "year": [["x"]]}).write_parquet(file)
    assert "column year, row 1: ['x'] is not a number" in run(releases, "--items", file).output


def test_new_items_need_a_release_that_was_trained_for_them(tmp_path: Path) -> None:
    write_random_release(tmp_path / "releases")
    file = written(tmp_path / "changed.csv", f"item_id,year\n{item_id(2)},1\nnew,2\n")
    result = run(tmp_path / "releases", "--items", file)
    assert result.exit_code == 1
    assert "column item_id, line 3: 'new' is a new item, and the release was trained without" in result.output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("item_id\nnobody\n", "column item_id, line 2: 'nobody' is not an item of the release"),
        (f"item_id\n{item_id(4)}\n{item_id(4)}\n", "column item_id, line 3: 'item-4' occurs twice"),
        ("item_id\n", "has no rows"),
    ],
)
def test_ids_to_retire_that_cannot_be_used_are_explained(
    releases: Path, tmp_path: Path, text: str, message: str
) -> None:
    result = run(releases, "--retire-from", written(tmp_path / "ids.csv", text))
    assert result.exit_code == 1
    assert message in result.output


def test_there_has_to_be_something_to_do(releases: Path) -> None:
    result = run(releases)
    assert result.exit_code == 2
    assert "nothing is to be changed" in " ".join(result.output.replace("│", " ").split())


def test_a_release_that_is_not_there_or_damaged_is_explained(releases: Path, tmp_path: Path) -> None:
    assert "CURRENT cannot be read" in run(tmp_path / "nowhere", "--retire", item_id(1)).output
    path = releases / current_release_id(releases) / "ranking_network.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    result = run(releases, "--retire", item_id(1))
    assert result.exit_code == 1
    assert "ranking_network.safetensors is damaged" in result.output
