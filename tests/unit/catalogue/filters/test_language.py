"""The filter language by examples: what is written, its canonical form, the films it finds, what is refused and why."""

from dataclasses import replace

import pytest

from tests.unit.catalogue.filters.films import FILMS
from winnow.catalogue.filters.checker import read_filter
from winnow.catalogue.filters.compiler import compile_filter
from winnow.catalogue.filters.error import FilterError
from winnow.catalogue.filters.parser import CANONICAL_LIMITS
from winnow.catalogue.schema import MAX_NAME_CHARACTERS

SCHEMA = dict(FILMS.schema)

VALID = [
    # Texts
    ('title = "Star Wars"', 'title = "Star Wars"', [0]),
    ("title = 'Star Wars'", 'title = "Star Wars"', [0]),
    ("title=Ö", 'title = "Ö"', [4]),
    ("title:Ö", 'title = "Ö"', [4]),
    ('title != "Star Wars"', 'title != "Star Wars"', [1, 3, 4]),
    ("title < S", 'title < "S"', [1]),
    ('title <= "Star Wars"', 'title <= "Star Wars"', [0, 1]),
    ('title > "Star Wars"', 'title > "Star Wars"', [3, 4]),
    ('title >= "Star Wars"', 'title >= "Star Wars"', [0, 3, 4]),
    ('title = "star wars"', 'title = "star wars"', []),
    ('title = ""', 'title = ""', []),
    ('title >= ""', 'title >= ""', [0, 1, 3, 4]),
    ("title = 1990", 'title = "1990"', []),
    ("title = user:42", 'title = "user:42"', []),
    # Patterns and escapes
    ("title = Star*", 'title = "Star*"', [0]),
    ('title = "*Story"', 'title = "*Story"', [3]),
    ('title != "*s"', 'title != "*s"', [1, 3, 4]),
    (r'title = "M\*A\*S\*H"', r'title = "M\*A\*S\*H"', [1]),
    (r'title = "M\**"', r'title = "M\**"', [1]),
    (r"""title = 'a\'b"c\\d'""", 'title = "a\'b\\"c\\\\d"', []),
    # Lists
    ("genres:Comedy", 'genres:"Comedy"', [0, 1, 3]),
    ("genres:Sci-Fi", 'genres:"Sci-Fi"', [0]),
    ("genres:War*", 'genres:"War*"', [1]),
    ("genres:*s", 'genres:"*s"', [3]),
    ("genres:(War OR Sci-Fi)", 'genres:"Sci-Fi" OR genres:"War"', [0, 1]),
    ("genres:(Comedy AND War)", 'genres:"Comedy" AND genres:"War"', [1]),
    ("genres:(Comedy -War)", 'NOT genres:"War" AND genres:"Comedy"', [0, 3]),
    ("genres:(Comedy NOT (War OR Sci-Fi))", 'NOT (genres:"Sci-Fi" OR genres:"War") AND genres:"Comedy"', [3]),
    # Numbers
    ("year = 1977", "year = 1977", [0]),
    ("year:1977.0", "year = 1977", [0]),
    ('year = "1977"', "year = 1977", [0]),
    ("year != 1977", "year != 1977", [1, 2, 4]),
    ("year<1977", "year < 1977", [1]),
    ("year<=+1.977e3", "year <= 1977", [0, 1]),
    ("year > -5", "year > -5", [0, 1, 2, 4]),
    ("year >= .5", "year >= 0.5", [0, 1, 2, 4]),
    ("year = -0", "year = 0", []),
    ("year = (1970 OR -1 OR 2001)", "year = -1 OR year = 1970 OR year = 2001", [1, 2]),
    ("year < 1" + "0" * 300, "year < 1e+300", [0, 1, 2, 4]),
    # Timestamps
    ("added = 2012-04-21T11:30:00-04:00", 'added = "2012-04-21T15:30:00Z"', [0, 4]),
    ('added > "2012-04-21t15:30:00z"', 'added > "2012-04-21T15:30:00Z"', [3]),
    ("added < 2012-04-21", 'added < "2012-04-21T00:00:00Z"', [2]),
    ("added <= 2020-01-01T00:00:00.500Z", 'added <= "2020-01-01T00:00:00.500000Z"', [0, 2, 3, 4]),
    ("added != 1969-12-31", 'added != "1969-12-31T00:00:00Z"', [0, 3, 4]),
    # Booleans
    ("adult = true", "adult = true", [1, 4]),
    ("adult:false", "adult = false", [0, 3]),
    ("adult != true", "adult = false", [0, 3]),
    # Presence
    ("title:*", "title:*", [0, 1, 3, 4]),
    ("genres:*", "genres:*", [0, 1, 3]),
    ("year:*", "year:*", [0, 1, 2, 4]),
    ("added:*", "added:*", [0, 2, 3, 4]),
    ("adult:*", "adult:*", [0, 1, 3, 4]),
    ('year = "*"', "year:*", [0, 1, 2, 4]),
    # A comparison with a missing value is false, NOT of it true
    ("NOT title:*", "NOT title:*", [2]),
    ("-genres:Comedy", 'NOT genres:"Comedy"', [2, 4]),
    ("NOT year < 1977", "NOT year < 1977", [0, 2, 3, 4]),
    ("NOT adult = true", "NOT adult = true", [0, 2, 3]),
    ("NOT year != 1977", "NOT year != 1977", [0, 3]),
    # Logic
    ("year > 1970 adult=true", "adult = true AND year > 1970", [4]),
    ("year > 1970 AND adult=true OR adult = false", "(adult = false OR adult = true) AND year > 1970", [0, 4]),
    ("adult=true OR year > 1990 title:T*", '(adult = true OR year > 1990) AND title = "T*"', []),
    ("NOT(adult=true)", "NOT adult = true", [0, 2, 3]),
    ("NOT (NOT adult=true)", "adult = true", [1, 4]),
    ("(((adult=true)))", "adult = true", [1, 4]),
    ("adult=true AND (adult=true AND year>1)", "adult = true AND year > 1", [1, 4]),
    ("(year > 1)(adult = true)", "adult = true AND year > 1", [1, 4]),
    ("\u00a0\n\tadult =\r\ntrue ", "adult = true", [1, 4]),
    # Names
    ('"release year" > 3', '"release year" > 3', [3, 4]),
    # Everything
    ("", "", [0, 1, 2, 3, 4]),
    (" \n", "", [0, 1, 2, 3, 4]),
]


@pytest.mark.parametrize(("text", "canonical", "found"), VALID, ids=[text for text, _, _ in VALID])
def test_what_is_written_its_canonical_form_and_what_it_finds(text: str, canonical: str, found: list[int]) -> None:
    expression = read_filter(text, SCHEMA)
    assert str(expression) == canonical
    assert compile_filter(expression, FILMS).rows().tolist() == found


NUMBER = "a number such as 1990, -4.5 or 1e6"
TIMESTAMP = 'an RFC 3339 timestamp or a date such as "2012-04-21T11:30:00Z" or "2012-04-21"'
OPERATOR = "an operator (= != < <= > >= :)"
NO_OPERATOR = f"{OPERATOR}, or quotation marks around a value with spaces"
PATTERN = r"one * at the beginning or the end of a text, or \* for the character *"

INVALID = [
    # Syntax
    ("year", 0, "'year' is not followed by an operator", NO_OPERATOR),
    ("title = Star Wars", 13, "'Wars' is not followed by an operator", NO_OPERATOR),
    ("year = 1 and adult = true", 9, "'and' is not followed by an operator", "AND in capitals"),
    ("not adult = true", 0, "'not' is not followed by an operator", "NOT in capitals"),
    ("Hugo OR year = 1", 0, "'Hugo' is not followed by an operator", NO_OPERATOR),
    ("year =", 6, "unexpected end of the filter", "a value or '('"),
    ("year == 1990", 6, "unexpected '='", "a value or '('"),
    ("title = AND", 8, "unexpected 'AND'", "a value or '('"),
    ("title = -x", 8, "unexpected '-'", "a value or '('"),
    ("year = 1 AND", 12, "unexpected end of the filter", "an attribute, '(' or NOT"),
    ("OR year = 1", 0, "unexpected 'OR'", "an attribute, '(' or NOT"),
    ("NOT NOT year = 1", 4, "unexpected 'NOT'", "an attribute or '('"),
    ("(year = 1", 9, "unexpected end of the filter", "')'"),
    ("year = 1)", 8, "unexpected ')'", "the end of the filter"),
    ("()", 1, "unexpected ')'", "an attribute, '(' or NOT"),
    ("year, adult = true", 4, "unexpected ','", OPERATOR),
    ('title = "x', 8, 'the quotation mark " is not closed', 'another "'),
    ("genres:Children's", 15, "the quotation mark ' is not closed", "another '"),
    ("title = a\\b", 9, "unexpected '\\\\'", "an attribute, '(', NOT, AND, OR or the end of the filter"),
    (r'title = "a\n"', 10, r"'\\n' is not an escape", r"""\\ \" \' or \*"""),
    # Attributes
    ("yeer > 1", 0, "there is no attribute 'yeer'", "one of year, added, adult, genres, release year, title"),
    ("adult=true x=1", 11, "there is no attribute 'x'", "one of added, adult, genres, release year, title, year"),
    # Operators
    ("genres = Comedy", 7, "= cannot compare genres, which is a list", ":"),
    ("adult < true", 6, "< cannot compare adult, which is a boolean", "= != :"),
    # Values
    ("year > soon", 7, "'soon' is not a number", NUMBER),
    ("year > 0x10", 7, "'0x10' is not a number", NUMBER),
    ("year > nan", 7, "'nan' is not a number", NUMBER),
    ("year > 1_000", 7, "'1_000' is not a number", NUMBER),
    ("year > ١٩٩٠", 7, "'١٩٩٠' is not a number", NUMBER),
    ("year > 1e999", 7, "'1e999' is too large a number", NUMBER),
    ("year = 19*", 7, "'19*' is not a number", NUMBER),
    ("year = null", 7, "'null' is not a number", f"{NUMBER} (NOT year:* finds what has no value)"),
    ("year = (1990 OR soon)", 16, "'soon' is not a number", NUMBER),
    ("added > soon", 8, "'soon' is not a timestamp", TIMESTAMP),
    ("added > 1700000000", 8, "'1700000000' is not a timestamp", TIMESTAMP),
    ("added > 2023-02-29", 8, "'2023-02-29' is not a timestamp: there is no such moment", TIMESTAMP),
    ("added > 0000-01-01", 8, "'0000-01-01' is not a timestamp: there is no such moment", TIMESTAMP),
    ("added > 9999-12-31T23:59:59-01:00", 8,
     "'9999-12-31T23:59:59-01:00' is not a timestamp: there is no such moment", TIMESTAMP),
    ("adult = True", 8, "'True' is neither true nor false", "true or false"),
    # Patterns
    ("title = M*A*S*H", 8, "'M*A*S*H' is not a pattern", PATTERN),
    ("title = *tar*", 8, "'*tar*' is not a pattern", PATTERN),
    ("title != *", 9, "'*' is not a pattern", PATTERN),
    ("title < S*", 8, "< cannot compare with a pattern", r"\* for the character *"),
    # Limits
    ("title = " + "x" * 1_993, 2_000, "the filter has 2001 characters", "at most 2000"),
    ("(" * 21 + "year = 1" + ")" * 21, 20, "parentheses are nested 21 deep", "at most 20"),
    ("year = (" + " OR ".join(["1"] * 101) + ")", 508, "there are more than 100 comparisons", "at most 100"),
    # What is not text
    ('title = "\ud800"', 9, "'\\ud800' is a lone surrogate", "Unicode text"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "offset", "reason", "expected"), INVALID, ids=[ascii(row[0])[:40] for row in INVALID])
def test_what_is_refused_where_and_what_was_expected(text: str, offset: int, reason: str, expected: str) -> None:
    with pytest.raises(FilterError) as refused:
        read_filter(text, SCHEMA)
    assert (refused.value.offset, refused.value.reason, refused.value.expected) == (offset, reason, expected)
    assert str(refused.value) == f"character {offset + 1}: {reason}; expected {expected}"


def test_a_release_without_attributes_says_so() -> None:
    with pytest.raises(FilterError, match="there is no attribute 'year'; expected no filter: the release has no"):
        read_filter("year = 1", {})


def test_the_largest_filters_have_canonical_forms_that_can_be_read() -> None:
    long_name = '"' * MAX_NAME_CHARACTERS
    values = " OR ".join(f"'{number}{'*' * 12}'".replace("*", r"\*") for number in range(50))
    alternating = "year = 0"
    for depth in range(1, 21):
        alternating = f"year = {depth} OR (year = -{depth} AND {alternating} OR year = {depth}.5)"
    schema = SCHEMA | {long_name: replace(SCHEMA["title"], name=long_name)}
    for text in (
        f"'{long_name}' = ({values})",
        alternating,
        "(" * 20 + "adult = true AND year = 1 OR year = 2" + ")" * 20,
    ):
        expression = read_filter(text, schema)
        assert read_filter(str(expression), schema, CANONICAL_LIMITS) == expression
