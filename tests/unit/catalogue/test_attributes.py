from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from winnow.catalogue.attributes import Attributes
from winnow.catalogue.filters.checker import read_filter
from winnow.catalogue.filters.compiler import compile_filter
from winnow.catalogue.schema import Attribute, AttributeType

unicode = st.characters(codec="utf-8")
some_text = st.text(unicode, min_size=1, max_size=6)
STORED_AS_GIVEN = {
    AttributeType.TEXT: some_text,
    AttributeType.LIST: st.lists(some_text, min_size=1, unique=True, max_size=4),
    AttributeType.NUMBER: st.floats(allow_nan=False),
    AttributeType.TIMESTAMP: st.datetimes(timezones=st.just(UTC)),
    AttributeType.BOOLEAN: st.booleans(),
}
names = st.text(unicode, min_size=1, max_size=9).filter(str.isprintable)


def column(type_: AttributeType, values: Sequence[Any] | np.ndarray) -> list[Any]:
    attributes = Attributes.from_values({"a": values}, {"a": type_}, len(values))
    return [attributes["a"][row] for row in range(len(values))]


@settings(deadline=None)
@given(st.data(), st.dictionaries(names, st.sampled_from(AttributeType), max_size=6), st.integers(0, 30))
def test_what_is_saved_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, types: dict[str, AttributeType], item_count: int
) -> None:
    values = {
        name: data.draw(st.lists(st.none() | STORED_AS_GIVEN[type_], min_size=item_count, max_size=item_count))
        for name, type_ in types.items()
    }
    written = Attributes.from_values(values, types, item_count)
    path = tmp_path_factory.mktemp("attributes") / "attributes.safetensors"
    written.save(path)
    read = Attributes.open(path)
    assert read.item_count == item_count
    assert read.schema == written.schema
    assert list(read.schema) == list(types)
    for name in types:
        assert [read[name][row] for row in range(item_count)] == values[name]


def test_the_same_attributes_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        films().save(tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def films() -> Attributes:
    return Attributes.from_values(
        {
            "title": ["B", None, "A", "B"],
            "genres": [["x", "y"], [], None, ["y"]],
            "year": [1990, None, 2001.5, float("nan")],
            "added": [0, None, None, datetime(2020, 1, 1)],
            "adult": [True, False, None, False],
        },
        {
            "title": AttributeType.TEXT,
            "genres": AttributeType.LIST,
            "year": AttributeType.NUMBER,
            "added": AttributeType.TIMESTAMP,
            "adult": AttributeType.BOOLEAN,
        },
        item_count=4,
    )


def test_the_schema_says_what_there_is() -> None:
    def attribute(name: str, type_: AttributeType, missing: int, distinct: int | None) -> Attribute:
        return Attribute(name=name, type=type_, missing_count=missing, distinct_count=distinct)

    assert list(films().schema.values()) == [
        attribute("title", AttributeType.TEXT, 1, 2),
        attribute("genres", AttributeType.LIST, 2, 2),
        attribute("year", AttributeType.NUMBER, 2, None),
        attribute("added", AttributeType.TIMESTAMP, 2, None),
        attribute("adult", AttributeType.BOOLEAN, 1, None),
    ]


def test_texts_may_be_integers_and_empty_ones_are_missing() -> None:
    assert column(AttributeType.TEXT, ["a", "", None, 7, np.int32(8)]) == ["a", None, None, "7", "8"]


def test_lists_lose_what_is_empty_or_repeated_and_keep_their_order() -> None:
    assert column(AttributeType.LIST, [["b", "a", "b"], ("a", None, ""), [""], [], None, [1]]) == [
        ["b", "a"],
        ["a"],
        None,
        None,
        None,
        ["1"],
    ]


def test_numbers_may_be_text_or_an_array() -> None:
    expected = [1.0, -2.5, None, None, 1000.0]
    assert column(AttributeType.NUMBER, [1, -2.5, None, float("nan"), "1e3"]) == expected
    assert column(AttributeType.NUMBER, ["1", "-2.5", "", None, "1000"]) == expected
    assert column(AttributeType.NUMBER, np.array([1, 2], dtype=np.int16)) == [1.0, 2.0]
    assert column(AttributeType.NUMBER, np.array([1, np.nan], dtype=np.float32)) == [1.0, None]


def test_timestamps_may_be_moments_dates_text_or_seconds_since_1970() -> None:
    noon = datetime(2020, 1, 1, 12, tzinfo=UTC)
    forms = [
        noon,
        noon.astimezone(timezone(timedelta(hours=5))),
        noon.replace(tzinfo=None),
        "2020-01-01T12:00:00Z",
        "2020-01-01 07:00:00-05:00",
        "2020-01-01T12:00",
        int(noon.timestamp()),
        str(int(noon.timestamp())),
        noon.timestamp(),
    ]
    assert column(AttributeType.TIMESTAMP, forms) == [noon] * len(forms)
    assert column(AttributeType.TIMESTAMP, [date(2020, 1, 1), "2020-01-01"]) == [datetime(2020, 1, 1, tzinfo=UTC)] * 2
    assert column(AttributeType.TIMESTAMP, [0.5, None, "", float("nan")])[1:] == [None] * 3
    assert column(AttributeType.TIMESTAMP, np.array(["2020-01-01T12", "NaT"], dtype="datetime64[s]")) == [noon, None]


def test_booleans_may_be_text_or_1_and_0() -> None:
    assert column(AttributeType.BOOLEAN, [True, "true", "TRUE", 1, "1", np.True_]) == [True] * 6
    assert column(AttributeType.BOOLEAN, [False, "False", 0, "0"]) == [False] * 4
    assert column(AttributeType.BOOLEAN, [None, ""]) == [None, None]


@pytest.mark.parametrize(
    ("type_", "value", "message"),
    [
        (AttributeType.TEXT, 1.5, "attribute a, row 1: 1.5 is not a text"),
        (AttributeType.TEXT, True, "attribute a, row 1: True is not a text"),
        (AttributeType.TEXT, "\ud800", "attribute a, .* is not Unicode text"),
        (AttributeType.LIST, "x", "attribute a, row 1: 'x' is not a list of texts"),
        (AttributeType.LIST, 5, "attribute a, row 1: 5 is not a list of texts"),
        (AttributeType.LIST, [[]], r"attribute a, row 1: \[\] is not a text"),
        (AttributeType.NUMBER, "soon", "attribute a, row 1: 'soon' is not a number"),
        (AttributeType.NUMBER, True, "attribute a, row 1: True is not a number"),
        (AttributeType.NUMBER, 10**400, "attribute a, row 1: int too large"),
        (AttributeType.TIMESTAMP, "soon", "attribute a, row 1: 'soon' is not a timestamp"),
        (AttributeType.TIMESTAMP, "2020-02-30", "attribute a, row 1: .* no such moment"),
        (AttributeType.TIMESTAMP, 1e12, "attribute a, row 1: .* seconds since 1970 are not in the years"),
        (AttributeType.TIMESTAMP, "1e300", "attribute a, row 1: .* seconds since 1970 are not in the years"),
        (AttributeType.TIMESTAMP, [], "attribute a, row 1: .* is neither a timestamp nor seconds since 1970"),
        (AttributeType.BOOLEAN, 2, "attribute a, row 1: 2 is neither true nor false"),
        (AttributeType.BOOLEAN, "yes", "attribute a, row 1: 'yes' is neither true nor false"),
    ],
)
def test_a_value_of_another_type_is_named(type_: AttributeType, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        column(type_, [None, value])


def test_a_moment_of_an_array_outside_of_the_years_1_to_9999_is_named() -> None:
    with pytest.raises(ValueError, match="attribute a, row 1: the moment is not in the years 1 to 9999"):
        column(AttributeType.TIMESTAMP, np.array(["2020-01-01", "10000-01-01"], dtype="datetime64[D]"))


@pytest.mark.parametrize("name", ["", "x" * 101, "a\nb", "\u202e"])
def test_a_name_that_cannot_be_used_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="attribute name"):
        Attributes.from_values({name: []}, {name: AttributeType.TEXT}, 0)


def test_a_column_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="attribute a has 1 values for 2 items"):
        Attributes.from_values({"a": ["x"]}, {"a": AttributeType.TEXT}, 2)


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_a_damaged_file_is_refused_or_harmless(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """A release's hashes find all damage. What comes this far all the same may be wrong, but breaks nothing."""
    path = tmp_path_factory.mktemp("attributes") / "attributes.safetensors"
    films().save(path)
    content = bytearray(path.read_bytes())
    header_end = 8 + int.from_bytes(content[:8], "little")
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, header_end - 1) | st.integers(header_end, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.just(len(content)) | st.integers(0, len(content)))])
    try:
        attributes = Attributes.open(path)
        for row in range(attributes.item_count):
            assert [attributes[name][row] for name in attributes.schema]
        for text in ('title < "B"', 'title = "*B"', 'genres:("y" OR "x*" OR "*")', "year < 5", "added > 1990-01-01"):
            compile_filter(read_filter(text, attributes.schema), attributes)
    except ValueError:
        pass


@pytest.mark.parametrize(
    ("name", "part", "array"),
    [
        ("title", "ends", np.array([2, 1], dtype=np.uint8)),
        ("title", "ends", np.array([1, 1], dtype=np.uint8)),
        ("title", "ends", np.array([1, 2], dtype=np.int64)),
        ("title", "utf8", np.array([65, 66], dtype=np.uint16)),
        ("title", "codes", np.array([0, 1, 2, 3], dtype=np.uint8)),
        ("title", "codes", np.zeros((4, 1), dtype=np.uint8)),
        ("genres", "codes", np.array([0, 1, 2], dtype=np.uint8)),
        ("genres", "list_ends", np.array([2, 2, 2], dtype=np.uint8)),
        ("genres", "list_ends", np.array([2, 3, 2, 3], dtype=np.uint8)),
        ("genres", "rows", np.array([0, 0, 4], dtype=np.uint8)),
        ("genres", "rows", np.array([0, 0], dtype=np.uint8)),
        ("genres", "rows_ends", np.array([3], dtype=np.uint8)),
        ("year", "values", np.zeros(4, dtype=np.float32)),
        ("year", "values", np.zeros((4, 1))),
        ("added", "values", np.array([2**62], dtype=np.int64)),
        ("adult", "values", np.array([3], dtype=np.uint8)),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(name: str, part: str, array: np.ndarray) -> None:
    column_read = films()[name]
    assert type(column_read).from_arrays(column_read.arrays())[0] == column_read[0]
    with pytest.raises(ValueError, match=r"code|ends|texts|fit|values are|moment|boolean"):
        type(column_read).from_arrays(column_read.arrays() | {part: array})


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "attributes.safetensors"
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"attributes\.safetensors does not hold attributes"):
        Attributes.open(path)


@settings(deadline=None)
@given(st.data(), st.sampled_from(AttributeType), st.integers(0, 12), st.integers(0, 6))
def test_replaced_values_are_stored_as_if_they_had_always_been_there(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, type_: AttributeType, count: int, new_count: int
) -> None:
    """To the byte: codes, dictionaries without what is no longer used, the narrowest integers."""

    def draw(size: int) -> list[Any]:
        return data.draw(st.lists(st.none() | STORED_AS_GIVEN[type_], min_size=size, max_size=size))

    before, unchanged = draw(count), draw(count)
    new_rows = range(count, count + new_count)
    rows = data.draw(st.permutations([*data.draw(st.sets(st.sampled_from(range(count)))), *new_rows])) if count else [
        *new_rows
    ]  # fmt: skip
    values = draw(len(rows))
    types = {"a": type_, "b": type_}
    attributes = Attributes.from_values({"a": before, "b": unchanged}, types, count)
    changes = Attributes.from_values({"a": values}, {"a": type_}, len(rows))
    found = attributes.replaced(count + new_count, np.array(rows, dtype=np.int64), changes)
    after = before + [None] * new_count
    for row, value in zip(rows, values, strict=True):
        after[row] = value
    expected = Attributes.from_values({"a": after, "b": unchanged + [None] * new_count}, types, count + new_count)
    directory = tmp_path_factory.mktemp("attributes")
    found.save(directory / "found")
    expected.save(directory / "expected")
    assert (directory / "found").read_bytes() == (directory / "expected").read_bytes()


def test_values_of_another_type_do_not_replace_any() -> None:
    changes = Attributes.from_values({"year": ["1990"]}, {"year": AttributeType.TEXT}, 1)
    with pytest.raises(ValueError, match="attribute year is of the type number, not text"):
        films().replaced(4, np.array([0]), changes)
