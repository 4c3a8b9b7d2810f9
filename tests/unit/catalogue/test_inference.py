from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from winnow.catalogue.inference import ColumnType, build_attributes, choose_types, infer_type, parse_types
from winnow.catalogue.schema import AttributeType, AttributeValueError

MOVIELENS_GENRES = ["Comedy", "Comedy, Drama", "Drama", "Comedy, Drama, War", "War", "Drama, War", "Comedy, War"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1990", "", None, "-4.5", "1e3"], "number (3 of 3 values are numbers)"),
        (["0", "0.5"], "number (2 of 2 values are numbers)"),
        (["0", "1"], "number (2 of 2 values are numbers)"),
        (["1990", "n/a"], "text ('n/a' is not a number)"),
        (["02134", "10115"], "text ('02134' has leading zeros)"),
        (["9007199254740993"], "text ('9007199254740993' is too large for an exact number)"),
        (["true", "False", None], "boolean (2 of 2 values are true or false)"),
        (["2020-01-01", "2020-01-01T10:00:00Z", "2020-01-01 10:00:00"], "timestamp (3 of 3 values are timestamps)"),
        (["2020-13-01"], "text ('2020-13-01' is not a number)"),
        (["a|b", "c"], "list (1 of 2 values have a '|', between 3 different texts)"),
        (["a"] * 10 + ["b|c"], "text ('a' is not a number)"),
        (MOVIELENS_GENRES, "list (4 of 7 values have a ',', between 3 different texts)"),
        ([genres.replace(", ", ";") for genres in MOVIELENS_GENRES],
         "list (4 of 7 values have a ';', between 3 different texts)"),
        (["Paris, France", "Lyon, France", "Rome, Italy"], "text ('Paris, France' is not a number)"),
        ([None, "", float("nan")], "text (no item has a value)"),
        ([], "text (no item has a value)"),
        ([1, 2.5, None, float("nan")], "number (2 of 2 values are numbers)"),
        ([2**53 + 1, 5.5], "number (2 of 2 values are numbers)"),
        ([2**53 + 1, 5], "text (9007199254740993 is too large for an exact number)"),
        ([True, None], "boolean (1 of 1 values are booleans)"),
        ([datetime(2020, 1, 1, tzinfo=UTC), date(2020, 1, 1)], "timestamp (2 of 2 values are timestamps)"),
        ([["a"], None, []], "list (2 of 2 values are lists)"),
    ],
)  # fmt: skip
def test_types_are_read_off_the_values_and_the_reason_is_said(values: list[object], expected: str) -> None:
    assert str(infer_type("x", values)) == expected


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("created_at", ["1700000000", ""], "timestamp (1 of 1 values are seconds since 1970, by the name)"),
        ("uploaded", [1_700_000_000, 1_600_000_000.5], "timestamp (2 of 2 values are seconds since 1970, by the name)"),
        ("uploaded", [1_700_000_000, 5], "number (2 of 2 values are numbers)"),
        ("uploaded", [1_700_000_000_000], "number (1 of 1 values are numbers)"),
        ("author", [1_700_000_000], "number (1 of 1 values are numbers)"),
        ("repeat", [1_700_000_000], "number (1 of 1 values are numbers)"),
    ],
)
def test_seconds_since_1970_are_told_by_the_name_of_the_column(name: str, values: list[object], expected: str) -> None:
    assert str(infer_type(name, values)) == expected


@pytest.mark.parametrize("values", [[Decimal(1)], [1, "a"], [True, 2], [{"a": 1}]])
def test_values_that_cannot_be_an_attribute_are_refused(values: list[object]) -> None:
    with pytest.raises(
        ValueError, match=r"column x: values of the type .* cannot be an attribute; x:skip leaves it out"
    ):
        choose_types({"x": values}, {})


def test_all_columns_that_cannot_be_attributes_are_named_together() -> None:
    columns: dict[str, list[object]] = {"a": [{"b": 1}], "title": ["t"], "c": [[["d"]]]}
    message = (
        "column a: values of the type dict cannot be an attribute; column c: nested lists cannot be an attribute; "
        "a:skip,c:skip leaves them out"
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
        choose_types(columns, {})
    assert set(choose_types(columns, parse_types("a:skip,c:skip"))) == {"title"}


def test_given_types_are_read() -> None:
    assert parse_types(" genres:list, release year:number ,a:b:text,x:skip,") == {
        "genres": AttributeType.LIST,
        "release year": AttributeType.NUMBER,
        "a:b": AttributeType.TEXT,
        "x": None,
    }
    assert parse_types("") == {}


@pytest.mark.parametrize("text", ["year", "year:integer", ":number", "year:number,,:"])
def test_given_types_that_cannot_be_read_are_named(text: str) -> None:
    with pytest.raises(ValueError, match="is not a column and its type: text, list, number, timestamp, boolean, skip"):
        parse_types(text)


def test_a_column_has_one_type() -> None:
    with pytest.raises(ValueError, match="'year' has two types"):
        parse_types("year:number,year:text")


def test_given_types_win_and_the_others_are_inferred() -> None:
    columns: dict[str, list[object]] = {
        "year": ["1990", "2001", ""],
        "uploaded": ["1700000000", None, "2020-01-01"],
        "tags": ["a;b", "c", ""],
        "authors": ["anna", "bert", None],
        "genres": ["x, y", "x", "y"],
        "description": ["long", "longer", "longest"],
    }
    given = parse_types("uploaded:timestamp,tags:list,authors:list,description:skip,genres:list")
    types = choose_types(columns, given)
    attributes = build_attributes(columns, types, 3)
    assert {name: str(column_type) for name, column_type in types.items()} == {
        "year": "number (2 of 2 values are numbers)",
        "uploaded": "timestamp (given)",
        "tags": "list (given)",
        "authors": "list (given)",
        "genres": "list (given)",
    }
    assert types["tags"] == ColumnType(type=AttributeType.LIST, reason="given", separator=";")
    assert list(attributes.schema) == list(types)
    assert [attributes["tags"][row] for row in range(3)] == [["a", "b"], ["c"], None]
    assert [attributes["authors"][row] for row in range(3)] == [["anna"], ["bert"], None]
    assert attributes["genres"][0] == ["x", "y"]
    assert attributes["uploaded"][0] == datetime.fromtimestamp(1_700_000_000, UTC)


def test_a_given_column_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="there is no column 'yeer' to give a type; there are year"):
        choose_types({"year": [1]}, {"yeer": AttributeType.NUMBER})


def test_a_value_that_does_not_fit_a_given_type_is_named() -> None:
    columns = {"year": ["1990", "soon"]}
    with pytest.raises(AttributeValueError, match="attribute year, row 1: 'soon' is not a number"):
        build_attributes(columns, choose_types(columns, {"year": AttributeType.NUMBER}), 2)
