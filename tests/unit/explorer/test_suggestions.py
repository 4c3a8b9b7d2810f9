"""Filters and caps to try follow from the items on the page."""

from winnow.client import Attribute, AttributeType, Item, ReleaseSchema
from winnow.explorer.gateways import Titles
from winnow.explorer.inputs import Inputs
from winnow.explorer.suggestions import Suggestion, suggested_filters

SCHEMA = ReleaseSchema(
    attributes=tuple(
        Attribute(name=name, type=kind, item_count=4, distinct_count=None)
        for name, kind in (
            ("title", AttributeType.TEXT),
            ("year", AttributeType.NUMBER),
            ("genres", AttributeType.LIST),
            ("stars", AttributeType.NUMBER),
        )
    ),
    item_count=4,
    release_id="r",
)
ITEMS = {
    str(year): Item(item_id=str(year), title="", attributes={"year": str(year), "genres": genres})
    for year, genres in ((1999, "Drama, Comedy"), (900, "Drama"), (2001, "Drama, War"), (1990, "War"))
}


def suggested(inputs: Inputs) -> list[tuple[str, str]]:
    found = suggested_filters(SCHEMA, Titles(ITEMS), list(ITEMS), inputs)
    assert all(isinstance(suggestion, Suggestion) for suggestion in found)
    return [(suggestion.field, suggestion.value) for suggestion in found]


def test_a_common_text_a_middling_number_and_a_cap_on_what_is_frequent() -> None:
    assert suggested(Inputs()) == [("filter", "year >= 1999"), ("filter", 'genres:"Drama"'), ("caps", "genres=2")]


def test_what_is_asked_already_is_not_suggested() -> None:
    assert suggested(Inputs(filter="year >= 1999", caps="genres=2")) == [("filter", 'genres:"Drama"')]


def test_nothing_on_the_page_is_nothing_to_try() -> None:
    assert suggested_filters(SCHEMA, Titles(ITEMS), [], Inputs()) == []
