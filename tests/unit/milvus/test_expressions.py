"""Expressions of Milvus: the text of a filter stays inside of a string literal. tests/engines asks a real server."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.catalogue.filters.films import FILMS
from winnow.catalogue.filters.checker import read_filter
from winnow.milvus.expressions import MAX_EXPRESSION_CHARACTERS, literal, translate
from winnow.milvus.items import attribute_fields

FIELDS = {field.name: field for field in attribute_fields(FILMS)}


def expression(text: str) -> str:
    translated = translate(read_filter(text, FILMS.schema), FIELDS).expression
    assert translated is not None
    return translated


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "row >= 0"),
        ("title = x", 'present_0 == true && (value_0 == "x")'),
        ("title != x", 'present_0 == true && not (present_0 == true && (value_0 == "x"))'),
        ("title < x", 'present_0 == true && (value_0 < "x")'),
        ("title = 'St*'", 'present_0 == true && (value_0 >= "St" && value_0 < "Su")'),
        ("title = '*ry'", 'present_0 == true && (backwards_0 >= "yr" && backwards_0 < "ys")'),
        ("genres:War", 'present_1 == true && (array_contains(value_1, "War"))'),
        (
            "genres:'W*'",
            'present_1 == true && ((value_1[0] >= "W" && value_1[0] < "X") || (value_1[1] >= "W" && value_1[1] < "X"))',
        ),
        ("year >= 1990", "present_2 == true && (value_2 >= 1990.0)"),
        ("added < 1970-01-01T00:00:01Z", "present_3 == true && (value_3 < 1000000)"),
        ("adult = true", "present_4 == true && (value_4 == true)"),
        ("NOT year:*", "not (present_2 == true)"),
        (
            "adult = true year:*",
            "(present_4 == true && (value_4 == true)) && (present_2 == true)",
        ),
        ("adult = true OR year:*", "(present_4 == true && (value_4 == true)) || (present_2 == true)"),
    ],
)
def test_a_filter_becomes_an_expression(text: str, expected: str) -> None:
    assert expression(text) == expected


@given(st.text(st.characters(exclude_categories=["Cs"])))
@example(";0000")
def test_a_literal_is_plain_and_means_the_text(text: str) -> None:
    quoted = literal(text)
    assert re.fullmatch(r'"([A-Za-z0-9 _.,:-]|\\u[0-9a-f]{4}|\\U[0-9a-f]{8})*"', quoted)
    escapes = re.compile(r"\\u([0-9a-f]{4})|\\U([0-9a-f]{8})")
    assert escapes.sub(lambda found: chr(int(found[1] or found[2], 16)), quoted[1:-1]) == text


def test_an_expression_that_would_be_too_long_is_none() -> None:
    long_lists = {"genres": FIELDS["genres"].model_copy(update={"capacity": 4_096})}
    text = " OR ".join(f"genres:'{number:040}*'" for number in range(20))
    assert translate(read_filter(text, FILMS.schema), long_lists).expression is None
    assert translate(read_filter("genres:'W*'", FILMS.schema), long_lists).size_bytes < MAX_EXPRESSION_CHARACTERS
