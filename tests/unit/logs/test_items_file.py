from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from winnow.catalogue.item_facts import NO_GROUP, UNKNOWN_DURATION
from winnow.catalogue.schema import AttributeType
from winnow.catalogue.vocabulary import Vocabulary
from winnow.history import UNKNOWN_TIME
from winnow.logs.input_table import InputFileError
from winnow.logs.items_file import facts_fingerprint, read_item_facts, read_items

VOCABULARY = Vocabulary(["a", "b", "c"])
POPULARITY = np.array([0.5, 0.3, 0.2], dtype=np.float32)
HEAD = "item_id,title,author,category,uploaded,duration_seconds\n"


def test_facts_are_by_row_and_what_is_not_there_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(
        HEAD + "c,C,anna,,1970-01-01T00:01:40,9.5\nelsewhere,E,bert,x,1,1\na,A,bert,x,7,\n"
    )
    facts = read_item_facts(tmp_path / "items.csv", VOCABULARY, POPULARITY)
    assert facts.authors[0] != facts.authors[2]
    assert facts.authors[1] == NO_GROUP
    assert (facts.categories == NO_GROUP).tolist() == [False, True, True]
    assert facts.uploaded.tolist() == [7, UNKNOWN_TIME, 100]
    assert facts.durations.tolist() == [UNKNOWN_DURATION, UNKNOWN_DURATION, 9.5]
    assert facts.popularity is POPULARITY


def test_without_a_file_or_the_columns_popularity_is_all_that_is_known(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,title\na,A\n")
    for path in (None, tmp_path / "items.csv"):
        facts = read_item_facts(path, VOCABULARY, POPULARITY)
        assert (facts.authors == NO_GROUP).all()
        assert (facts.uploaded == UNKNOWN_TIME).all()
        assert (facts.durations == UNKNOWN_DURATION).all()


def test_columns_become_attributes_of_inferred_types(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text('item_id,title,year,genres,zip\nc,C,1990,"x|y",02134\nelsewhere,E,1,x,1\na,A,,"y|x",\n')
    found = read_items(path, VOCABULARY)
    assert {name: attribute.type for name, attribute in found.attributes.schema.items()} == {
        "title": "text",
        "year": "number",
        "genres": "list",
        "zip": "text",
    }
    assert [found.attributes["year"][row] for row in range(3)] == [None, None, 1990]
    assert [found.attributes["genres"][row] for row in range(3)] == [["y", "x"], None, ["x", "y"]]
    assert found.attributes["zip"][2] == "02134"
    assert str(found.types["year"]) == "number (2 of 2 values are numbers)"


def test_the_types_of_a_parquet_file_are_kept(tmp_path: Path) -> None:
    moment = datetime(2024, 5, 1, tzinfo=UTC)
    frame = pl.DataFrame(
        {
            "item_id": ["c", "a"],
            "title": ["C", "A"],
            "genres": [["x", "y"], None],
            "added": [moment, None],
            "adult": [None, True],
            "price": [Decimal("9.50"), None],
            "shelf": pl.Series(["left", None], dtype=pl.Categorical),
        }
    )
    frame.write_parquet(tmp_path / "items.parquet")
    attributes = read_items(tmp_path / "items.parquet", VOCABULARY).attributes
    values = {name: [attributes[name][row] for row in range(3)] for name in attributes}
    assert values == {
        "title": ["A", None, "C"],
        "genres": [None, None, ["x", "y"]],
        "added": [None, None, moment],
        "adult": [True, None, None],
        "price": [None, None, 9.5],
        "shelf": [None, None, "left"],
    }


def test_given_types_win(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text("item_id,title,year,long\na,A,1990,text\n")
    found = read_items(path, VOCABULARY, {"year": AttributeType.TEXT, "long": None})
    assert list(found.attributes) == ["title", "year"]
    assert found.attributes["year"][0] == "1990"
    assert found.columns["long"] == ["text", None, None]


@pytest.mark.parametrize(
    ("text", "types", "expected"),
    [
        (
            "item_id,title,year\na,A,1990\nb,B,soon\n",
            {"year": AttributeType.NUMBER},
            "column year, line 3: 'soon' is not",
        ),
        ("item_id,title,year\na,A,1990\n", {"yeer": AttributeType.NUMBER}, "there is no column 'yeer' .*are year"),
        (
            "item_id,title,year\na,A,1990\n",
            {"title": AttributeType.NUMBER},
            "there is no column 'title' to give a type",
        ),
        ("item_id,title," + "x" * 101 + "\na,A,1\n", {}, "attribute name 'xxx.* has 101 characters"),
    ],
)
def test_columns_that_cannot_be_attributes_are_named(
    tmp_path: Path, text: str, types: dict[str, AttributeType], expected: str
) -> None:
    (tmp_path / "items.csv").write_text(text)
    with pytest.raises(InputFileError, match=rf"items\.csv: {expected}"):
        read_items(tmp_path / "items.csv", VOCABULARY, types)


def test_a_parquet_column_of_another_type_is_named_with_what_helps(tmp_path: Path) -> None:
    frame = pl.DataFrame({"item_id": ["a"], "title": ["A"], "picture": [b"png"]})
    frame.write_parquet(tmp_path / "items.parquet")
    with pytest.raises(InputFileError, match=r"column picture: values of the type bytes .*picture:skip leaves it out"):
        read_items(tmp_path / "items.parquet", VOCABULARY)
    assert list(read_items(tmp_path / "items.parquet", VOCABULARY, {"picture": None}).attributes) == ["title"]


def test_types_without_a_file_are_refused() -> None:
    with pytest.raises(InputFileError, match="no items file"):
        read_items(None, VOCABULARY, {"year": AttributeType.NUMBER})


def test_every_fact_counts_in_the_fingerprint(tmp_path: Path) -> None:
    def of(line: str, popularity: NDArray[np.float32] = POPULARITY) -> str:
        (tmp_path / "items.csv").write_text(f"{HEAD}b,B,bert,y,1,1\n{line}\n")
        return facts_fingerprint(read_item_facts(tmp_path / "items.csv", VOCABULARY, popularity))

    plain = "a,A,anna,x,7,9.5"
    lines = [plain, "a,A,bert,x,7,9.5", "a,A,anna,y,7,9.5", "a,A,anna,x,8,9.5", "a,A,anna,x,7,9"]
    assert len({*map(of, lines), of(plain, POPULARITY[::-1])}) == 6
    assert of("a,Another title,anna,x,7,9.5") == of(plain)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a,A,x,y,soon,1", "column uploaded, line 2: 'soon' must be seconds since 1970"),
        ("a,A,x,y,1,-1", "column duration_seconds, line 2: '-1' must be a number, 0 or more"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, line: str, expected: str) -> None:
    (tmp_path / "items.csv").write_text(HEAD + line + "\n")
    with pytest.raises(InputFileError, match=expected):
        read_item_facts(tmp_path / "items.csv", VOCABULARY, POPULARITY)
