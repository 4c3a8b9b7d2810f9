"""Whatever text comes, reading a filter returns an expression or raises FilterError."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.unit.catalogue.filters.films import FILMS
from tests.unit.catalogue.filters.test_language import VALID
from winnow.catalogue.filters.checker import read_filter
from winnow.catalogue.filters.compiler import compile_filter
from winnow.catalogue.filters.error import FilterError
from winnow.catalogue.filters.parser import CANONICAL_LIMITS, FilterLimits

SCHEMA = FILMS.schema
NO_LIMITS = FilterLimits(characters=10**9, depth=10**9, comparisons=10**9)

# Parts of filters in any order: far more of these come close to being one than of random characters.
PARTS = [
    *("title", "genres", "year", "added", "adult", "'release year'", "nothing", "AND", "OR", "NOT", "-", "(", ")", ","),
    *("=", "!=", "<", "<=", ">", ">=", ":", "*", '"', "'", "\\", "\\*", '"x"', "x", "1990", "-1e9", "true", "null"),
    *("2012-04-21T11:30:00-04:00", "\x00", "\u202e", "\ud800", "\u00a0", "é", "😀", "9" * 400, "1e400", ".", "+", "!"),
]


def read_and_compile(text: str, limits: FilterLimits = CANONICAL_LIMITS) -> None:
    try:
        expression = read_filter(text, SCHEMA, limits)
    except FilterError as error:
        assert 0 <= error.offset <= len(text)
        str(error).encode()
        assert str(error).isprintable()
        return
    compiled = compile_filter(expression, FILMS)
    assert (
        compile_filter(read_filter(str(expression), SCHEMA, NO_LIMITS), FILMS).rows().tolist()
        == compiled.rows().tolist()
    )


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.sampled_from(PARTS), max_size=30), st.sampled_from(["", " "]))
def test_parts_of_filters_in_any_order(parts: list[str], between: str) -> None:
    read_and_compile(between.join(parts))


@settings(max_examples=500, deadline=None)
@given(st.text(st.characters(), max_size=60))
@example("year = 1\ud800")
def test_characters_in_any_order(text: str) -> None:
    read_and_compile(text)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_bytes_in_any_order(data: bytes) -> None:
    read_and_compile(data.decode(errors="surrogateescape"))
    read_and_compile(data.decode("latin-1"))


@settings(max_examples=500, deadline=None)
@given(st.sampled_from([text for text, _, _ in VALID]), st.integers(0, 60), st.integers(0, 3), st.sampled_from(PARTS))
def test_filters_with_a_change_somewhere(text: str, start: int, removed: int, inserted: str) -> None:
    read_and_compile(text[:start] + inserted + text[start + removed :])


@pytest.mark.parametrize(
    "text",
    [
        "(" * 60_000,
        "(" * 30_000 + "adult = true" + ")" * 30_000,
        "NOT " * 15_000 + "adult = true",
        "-" * 60_000,
        "NOT (" * 10_000 + "adult = true" + ")" * 10_000,
        "year = (" + "(" * 30_000 + "1" + ")" * 30_000 + ")",
        "adult = true " * 4_000,
        "year = " + "9" * 60_000,
        "year = 0." + "0" * 60_000 + "1",
        "title = " + "*" * 60_000,
        'title = "' + "\\\\" * 30_000,
        "title = '" + '"' * 60_000,
        "n" * 60_000,
        "added = 2012-04-21T11:30:00." + "9" * 60_000 + "Z",
        " " * 60_000 + "x",
        "a OR " * 10_000,
        ":" * 60_000,
    ],
    ids=lambda text: text[:20],
)
def test_filters_that_would_cost_much_are_refused_before_they_do(text: str) -> None:
    read_and_compile(text)
    read_and_compile(text, FilterLimits(characters=100_000, depth=41, comparisons=100))
