"""Values of attributes as numbers: the same for items that are trained on and items that come later."""

from datetime import UTC, datetime

import numpy as np
import pytest

from winnow.catalogue.attribute_codes import RANGE_COUNT, AttributeCodes, ItemCodes
from winnow.catalogue.attributes import Attributes
from winnow.catalogue.schema import AttributeType


def attributes(type_: AttributeType, values: list[object]) -> Attributes:
    return Attributes.from_values({"a": values}, {"a": type_}, len(values))


def encoded(codes: AttributeCodes, found: Attributes) -> list[list[int]]:
    table: list[list[int]] = codes.encode(found, np.arange(found.item_count)).tolist()
    return table


def test_texts_have_the_number_of_their_place_the_most_frequent_first() -> None:
    trained = attributes(AttributeType.LIST, [["Drama", "War"], ["Drama"], None, ["Comedy", "War", "Drama"]])
    codes = AttributeCodes.fit("a", trained["a"])
    assert codes.texts == ("Drama", "War", "Comedy")
    assert encoded(codes, trained) == [[1, 2, 0], [1, 0, 0], [0, 0, 0], [3, 2, 1]]
    later = attributes(AttributeType.LIST, [["Western"], ["Western", "War"]])
    assert encoded(codes, later) == [[0], [2]]


def test_commas_separate_values_in_a_text_but_not_in_a_list() -> None:
    text = attributes(AttributeType.TEXT, ["Drama, War", "War"])
    assert encoded(AttributeCodes.fit("a", text["a"]), text) == [[2, 1], [1, 0]]
    lists = attributes(AttributeType.LIST, [["Smith, J"]])
    assert AttributeCodes.fit("a", lists["a"]).texts == ("Smith, J",)


@pytest.mark.parametrize("type_", [AttributeType.NUMBER, AttributeType.TIMESTAMP])
def test_numbers_and_moments_have_the_number_of_their_range(type_: AttributeType) -> None:
    years = [*range(1950, 2000), None]
    values = [
        year if type_ is AttributeType.NUMBER or year is None else datetime(year, 1, 1, tzinfo=UTC) for year in years
    ]
    trained = attributes(type_, list(values))
    codes = AttributeCodes.fit("a", trained["a"])
    assert codes.value_count == RANGE_COUNT
    found = [row[0] for row in encoded(codes, trained)]
    assert found[-1] == 0
    assert found[:-1] == sorted(found[:-1])
    assert set(found[:-1]) == set(range(1, RANGE_COUNT + 1))
    # What lies beyond is in the first or the last range.
    beyond = [1800, 2400] if type_ is AttributeType.NUMBER else [datetime(1800, 1, 1), datetime(2400, 1, 1)]
    assert encoded(codes, attributes(type_, list(beyond))) == [[1], [RANGE_COUNT]]


def test_few_different_numbers_have_a_range_each() -> None:
    trained = attributes(AttributeType.NUMBER, [3, 1, 3, 2, 3, 3])
    assert encoded(AttributeCodes.fit("a", trained["a"]), trained) == [[3], [1], [3], [2], [3], [3]]
    alone = attributes(AttributeType.NUMBER, [7, 7])
    assert encoded(AttributeCodes.fit("a", alone["a"]), alone) == [[1], [1]]


@pytest.mark.parametrize("type_", [AttributeType.NUMBER, AttributeType.TEXT, AttributeType.LIST])
def test_an_attribute_without_values_is_refused(type_: AttributeType) -> None:
    with pytest.raises(ValueError, match="attribute a has no value for any item"):
        AttributeCodes.fit("a", attributes(type_, [None, None])["a"])


def test_what_is_dumped_is_what_is_loaded() -> None:
    codes = ItemCodes(
        watched=(AttributeCodes(name="author", texts=("é", "b")),),
        parts=(AttributeCodes(name="year", edges=(0.1, 2.0)),),
    )
    assert ItemCodes.load(codes.dump()) == codes
    with pytest.raises(ValueError, match="parts"):
        ItemCodes.load(b'{"watched": [], "parts": 3}')
