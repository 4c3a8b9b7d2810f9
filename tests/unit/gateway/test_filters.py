"""What requests may be answered with: filters read at the edge, and the rows that they permit."""

import asyncio

import numpy as np
import pytest

from gateway.checks import Violations
from gateway.filters import REMEMBERED_TEXTS, PermittedRows, RequestFilters
from tests.releases import attributes_of
from winnow.catalogue.filters.compiler import CompiledFilter
from winnow.queries import Restriction
from winnow.rpc.errors import InvalidRequestError


@pytest.fixture
def filters() -> RequestFilters:
    return RequestFilters(attributes_of(300), cache_bytes=2**20)


def test_a_filter_is_read_into_its_canonical_form(filters: RequestFilters) -> None:
    violations = Violations()
    for _ in range(2):
        assert filters.read("year>=1990   country=DE", violations) == 'country = "DE" AND year >= 1990'
    assert filters.read("", violations) == ""
    assert filters.read("   ", violations) == ""
    violations.refuse()


def test_what_cannot_be_read_is_a_violation_of_the_field(filters: RequestFilters) -> None:
    violations = Violations()
    assert filters.read("year >", violations) == ""
    with pytest.raises(InvalidRequestError, match="filter: character 7: unexpected end of the filter; expected "):
        violations.refuse()


def test_a_bounded_number_of_texts_is_remembered(filters: RequestFilters) -> None:
    for number in range(REMEMBERED_TEXTS + 10):
        filters.read(f"year = {number}", Violations())
    assert len(filters._canonical) == REMEMBERED_TEXTS


@pytest.mark.parametrize("count", [1, 5, 300])
@pytest.mark.parametrize("allowed", [None, [], [9, 4, 4, 250]])
@pytest.mark.parametrize("text", ["", "year >= 2000", "year = 1800"])
def test_permitted_rows_are_those_of_the_filter_and_the_list(
    filters: RequestFilters, text: str, allowed: list[int] | None, count: int
) -> None:
    rows = None if allowed is None else np.array(allowed, dtype=np.int32)
    restriction = Restriction(filter=text, allowed=rows)
    permitted = asyncio.run(filters.permitted(restriction))
    if not restriction:
        assert permitted is None
        return
    assert permitted is not None
    matching = {"": range(300), "year >= 2000": [row for row in range(300) if row % 30 >= 10], "year = 1800": []}
    expected = [row for row in matching[text] if allowed is None or row in allowed]
    everything = np.arange(300, dtype=np.int32)
    assert everything[permitted.includes(everything)].tolist() == expected
    # Row 299 is the most popular, two rows each are equally popular.
    popularity = (everything // 2).astype(np.float32)
    order = np.argsort(-popularity, kind="stable").astype(np.int32)
    best = [row for row in order.tolist() if row in set(expected)][:count]
    assert permitted.most_popular(count, popularity, order).tolist() == best


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_many_permitted_rows_are_taken_in_the_order_of_popularity(share: float) -> None:
    rng = np.random.default_rng(0)
    mask = rng.random(200_000) < share
    compiled = CompiledFilter(
        bitmap=np.packbits(mask, bitorder="little"), item_count=len(mask), match_count=int(mask.sum())
    )
    popularity = rng.random(len(mask)).astype(np.float32)
    order = np.argsort(-popularity, kind="stable").astype(np.int32)
    for count in (1, 1_000, 190_000):
        expected = order[mask[order]][:count]
        assert PermittedRows(compiled).most_popular(count, popularity, order).tolist() == expected.tolist()
