"""What a request may ask of selection, and what is wrong with it otherwise."""

from typing import Any

import pytest

from gateway.checks import Violations
from gateway.selection_rules import NOTHING_SELECTED, GivenSelection, SelectionReader, SelectionRules
from gateway.served_catalogue import ServedCatalogue
from tests.releases import item_id
from winnow.rpc.errors import InvalidRequestError

READER = SelectionReader({}, 0.0)


def violations(catalogue: ServedCatalogue, **asked: Any) -> list[tuple[str, str]]:
    found = Violations()
    READER.check(GivenSelection(**asked), 5, catalogue.schema, found)
    with pytest.raises(InvalidRequestError) as refused:
        found.refuse()
    return [(violation.field, violation.description) for violation in refused.value.violations]


def read(
    catalogue: ServedCatalogue, reader: SelectionReader = READER, **asked: Any
) -> tuple[SelectionRules | None, int]:
    return reader.read(GivenSelection(**asked) if asked else NOTHING_SELECTED, catalogue.vocabulary)


@pytest.mark.parametrize(
    ("asked", "field", "description"),
    [
        ({"caps": [("genres", 1), ("genre", 1)]}, "caps[1].attribute", "is 'genre', which is no attribute"),
        ({"caps": [("x" * 100_000, 1)]}, "caps[0].attribute", "is '" + "x" * 50 + "', which"),
        ({"caps": [("", 1)]}, "caps[0].attribute", "is '', which"),
        ({"caps": [("added", 1)]}, "caps[0].attribute", "is a timestamp"),
        ({"caps": [("year", 1), ("year", 2)]}, "caps[1].attribute", "is capped already"),
        ({"caps": [("year", 0)]}, "caps[0].max_count", "is 0: at least 1"),
        ({"caps": [("year", -3)]}, "caps[0].max_count", "is -3: at least 1"),
        ({"caps": [("year", 1)] * 11}, "caps", "has more than 10 caps"),
        ({"pinned_items": [("", 1)]}, "pinned_items[0].item_id", "is empty"),
        ({"pinned_items": [("a" * 513, 1)]}, "pinned_items[0].item_id", "is 513 bytes long"),
        ({"pinned_items": [("a", 0)]}, "pinned_items[0].position", "is 0: it has to be from 1 to the item count, 5"),
        ({"pinned_items": [("a", 1), ("b", 6)]}, "pinned_items[1].position", "is 6: it has to be from 1"),
        ({"pinned_items": [("a", 1), ("b", 1)]}, "pinned_items[1].position", "is 1, as of pinned_items[0]"),
        ({"pinned_items": [("a", 1), ("a", 2)]}, "pinned_items[1].item_id", "is pinned already"),
        ({"pinned_items": [("a", 1)] * 101}, "pinned_items", "has more than 100 items"),
        ({"diversity": -0.1}, "diversity", "is -0.1: a number from 0 to 1"),
        ({"diversity": 1.01}, "diversity", "is 1.01: a number from 0 to 1"),
        ({"diversity": float("nan")}, "diversity", "is nan: a number from 0 to 1"),
    ],
)
def test_field_and_position_are_named(
    catalogue: ServedCatalogue, asked: dict[str, Any], field: str, description: str
) -> None:
    [(found, text)] = violations(catalogue, **asked)
    assert found == field
    assert text.startswith(description)
    assert len(text) < 200


def test_ids_become_rows_in_the_order_of_their_positions(catalogue: ServedCatalogue) -> None:
    pinned = [(item_id(7), 4), ("no such item", 1), (item_id(9), 2)]
    rules, unknown_count = read(catalogue, pinned_items=pinned, caps=[("genres", 2)], diversity=0.5)
    assert rules is not None
    assert rules.pinned.tolist() == [9, 7]
    assert list(rules.places) == [1, 3]
    assert list(rules.caps) == [("genres", 2)]
    assert rules.diversity == 0.5
    assert unknown_count == 1


def test_a_request_that_asks_for_nothing_has_no_rules(catalogue: ServedCatalogue) -> None:
    assert read(catalogue) == (None, 0)
    assert read(catalogue, diversity=0.0) == (None, 0)
    assert read(catalogue, pinned_items=[("no such item", 1)]) == (None, 1)


def test_defaults_apply_unless_the_request_says_otherwise(catalogue: ServedCatalogue) -> None:
    reader = SelectionReader({"genres": 3}, 0.25)
    reader.check_defaults(catalogue.schema)
    for asked in ({}, {"pinned_items": [(item_id(1), 1)]}):
        rules, _ = read(catalogue, reader, **asked)
        assert rules is not None
        assert (list(rules.caps), rules.diversity) == ([("genres", 3)], 0.25)
    rules, _ = read(catalogue, reader, caps=[("year", 1)], diversity=0.0)
    assert rules is not None
    assert (list(rules.caps), rules.diversity) == ([("year", 1)], 0.0)


@pytest.mark.parametrize(
    ("attribute", "wrong"), [("genre", "no attribute of the release"), ("added", "is a timestamp")]
)
def test_a_default_cap_that_does_not_fit_the_release_is_an_error(
    catalogue: ServedCatalogue, attribute: str, wrong: str
) -> None:
    with pytest.raises(ValueError, match=f"default cap of '{attribute}'.*{wrong}"):
        SelectionReader({attribute: 1}, 0.0).check_defaults(catalogue.schema)
