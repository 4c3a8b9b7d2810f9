"""Which conditions of a filter an item does not meet."""

import pytest

from tests.releases import attributes_of
from winnow.catalogue.filters.checker import read_filter
from winnow.catalogue.filters.compiler import compile_filter
from winnow.catalogue.filters.unmet import unmet_conditions

ATTRIBUTES = attributes_of(300)
FILTERS = [
    "year >= 2000",
    "year >= 2000 AND genres:Comedy AND NOT adult = true",
    "genres:(Comedy AND Drama)",
    "country:* AND (year < 1995 OR genres:Drama)",
    "added < 2020-05-01 AND title:*",
    "NOT (year >= 2000 AND genres:Comedy)",
    'country != DE AND country = "Côte*" AND title = "*7"',
]


@pytest.mark.parametrize("text", FILTERS)
def test_an_item_matches_where_it_meets_every_condition(text: str) -> None:
    expression = read_filter(text, ATTRIBUTES.schema)
    matching = compile_filter(expression, ATTRIBUTES).mask()
    for row in range(0, 300, 7):
        unmet = unmet_conditions(str(expression), ATTRIBUTES, row)
        assert bool(unmet) is not bool(matching[row])
        for condition in unmet:
            assert not compile_filter(read_filter(condition, ATTRIBUTES.schema), ATTRIBUTES).mask()[row]


def test_of_what_is_joined_by_and_the_false_conditions_are_told() -> None:
    assert unmet_conditions('country = "DE" AND genres:"Comedy" AND year >= 2000', ATTRIBUTES, 4) == [
        'country = "DE"',
        "year >= 2000",
    ]
    assert unmet_conditions("year < 1991 OR year > 2010", ATTRIBUTES, 4) == ["year < 1991 OR year > 2010"]
    assert unmet_conditions("", ATTRIBUTES, 4) == []
