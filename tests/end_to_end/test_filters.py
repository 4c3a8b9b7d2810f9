"""Filters and allow-lists through all services: the answers of the plain computation, and clear errors."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import local_stack
from tests.end_to_end.test_stack import assert_same, random_history, stop
from tests.reference import DirectRecommender
from tests.releases import ATTRIBUTE_TYPES, ITEM_COUNT, attributes_of, item_id, write_random_release
from winnow.client import AttributeType, DegradationStep, ScoreType, WinnowClient, WinnowError

ITEMS = attributes_of(ITEM_COUNT)
MOMENT = datetime(2020, 5, 1, tzinfo=UTC)


def value(name: str, row: int) -> Any:
    return ITEMS[name][row]


def has_genre(row: int, genre: str) -> bool:
    return genre in (value("genres", row) or [])


def added_before(row: int) -> bool:
    added = value("added", row)
    return added is not None and added < MOMENT


# What each filter means, in Python.
FILTERS: dict[str, Callable[[int], bool]] = {
    "year >= 2000": lambda row: value("year", row) >= 2000,
    "genres:Comedy AND year < 2010": lambda row: has_genre(row, "Comedy") and value("year", row) < 2010,
    'genres:(Drama OR "Science Fiction") -adult = true': (
        lambda row: (has_genre(row, "Drama") or has_genre(row, "Science Fiction")) and value("adult", row) is not True
    ),
    "country = DE": lambda row: value("country", row) == "DE",
    "country != DE": lambda row: value("country", row) not in ("DE", None),
    "NOT country:*": lambda row: value("country", row) is None,
    'country = "Côte*"': lambda row: value("country", row) == "Côte d'Ivoire",
    "added < 2020-05-01": added_before,
    'title = "Title 7"': lambda row: row == 7,
    "year = 1800": lambda _row: False,
    "title:*": lambda _row: True,
}


@pytest.mark.parametrize("text", FILTERS)
def test_filtered_answers_equal_the_plain_computation(client: WinnowClient, releases: Path, text: str) -> None:
    direct = DirectRecommender(releases)
    for seed in range(3):
        history = random_history(seed)
        answer = client.recommend(history, count=50, filter=text)
        assert not answer.degraded
        expected = direct.recommend(history, 50, matches=FILTERS[text])
        assert_same(answer, expected)
        possible = {row for row in range(ITEM_COUNT) if FILTERS[text](row)} - set(direct.vocabulary.rows(history)[0])
        assert len(answer.items) == min(50, len(possible))
        assert len(client.retrieve(history, count=1000, filter=text).items) == len(possible)


def test_allow_lists_exclusions_and_filters_go_together(client: WinnowClient, releases: Path) -> None:
    direct, history = DirectRecommender(releases), random_history(3)
    allowed, excluded = set(range(0, ITEM_COUNT, 3)), set(range(0, ITEM_COUNT, 12))
    text = "year >= 2000"
    answer = client.recommend(
        history,
        count=50,
        filter=text,
        allowed_item_ids=["no such item", *map(item_id, allowed)],
        excluded_item_ids=map(item_id, excluded),
    )
    assert answer.unknown_allowed_count == 1
    assert_same(
        answer,
        direct.recommend(
            history, 50, matches=lambda row: FILTERS[text](row) and row in allowed and row not in excluded
        ),
    )


def test_an_allow_list_without_known_items_allows_none(client: WinnowClient) -> None:
    for history in (random_history(1), []):
        answer = client.recommend(history, allowed_item_ids=["no such item"])
        assert (answer.items, answer.unknown_allowed_count, answer.degraded) == ((), 1, False)


@pytest.mark.parametrize("text", FILTERS)
def test_popular_items_are_filtered_too(client: WinnowClient, text: str) -> None:
    answer = client.recommend([], count=100, filter=text)
    matching = [item_id(row) for row in range(ITEM_COUNT) if FILTERS[text](row)]
    assert not answer.degraded
    assert len(answer.items) == min(100, len(matching))
    assert {item.item_id for item in answer.items} <= set(matching[:200])


def test_degraded_answers_keep_the_filter(releases: Path) -> None:
    text, allowed = "genres:Comedy AND year < 2010", list(range(150))
    matching = [row for row in allowed if FILTERS[text](row)]
    asked: dict[str, Any] = {"filter": text, "allowed_item_ids": [item_id(row) for row in allowed], "count": 100}
    with (
        local_stack(releases) as stack,
        WinnowClient(stack.gateway_target, timeout_seconds=10) as client,
    ):
        history = ["unknown", item_id(1)]
        stop(stack, "ranking_service")
        unranked = client.recommend(history, **asked)
        assert unranked.degradation.step is DegradationStep.CANDIDATE_ORDER
        assert {item.item_id for item in unranked.items} == set(map(item_id, matching))
        stop(stack, "candidate_service")
        popular = client.recommend(history, **asked)
        assert popular.degradation.step is DegradationStep.POPULAR
        assert popular.score_type is ScoreType.POPULARITY
        assert [item.item_id for item in popular.items] == list(map(item_id, matching))
        by_filter = client.recommend(history, filter="year >= 2000", count=100)
        expected = [item_id(row) for row in range(ITEM_COUNT) if FILTERS["year >= 2000"](row)]
        assert [item.item_id for item in by_filter.items] == expected[:100]


def test_many_different_filters_at_once_are_each_answered_as_alone(client: WinnowClient, releases: Path) -> None:
    direct = DirectRecommender(releases)

    def ask(number: int) -> None:
        history = random_history(number)
        answer = client.recommend(history, count=10, filter=f'year >= {1990 + number % 30} AND title != "{number}"')
        expected = direct.recommend(history, 10, matches=lambda row: value("year", row) >= 1990 + number % 30)
        assert_same(answer, expected)

    with ThreadPoolExecutor(max_workers=64) as callers:
        list(callers.map(ask, range(64)))


@pytest.mark.parametrize(
    ("text", "description"),
    [
        ("yeer >= 1990", "character 1: there is no attribute 'yeer'; expected one of year, "),
        ("year >= soon", "character 9: 'soon' is not a number; expected a number such as 1990"),
        ("title = Star Wars", "character 14: 'Wars' is not followed by an operator"),
        ("year >=", "character 8: unexpected end of the filter"),
        ("x" * 2_001, "character 2001: the filter has 2001 characters; expected at most 2000"),
        ("(" * 21 + "year = 1" + ")" * 21, "character 21: parentheses are nested 21 deep"),
    ],
)
def test_a_filter_that_cannot_be_read_is_refused_with_its_position(
    client: WinnowClient, text: str, description: str
) -> None:
    for ask in (client.recommend, client.retrieve):
        with pytest.raises(WinnowError) as refused:
            ask([item_id(1)], filter=text)
        assert refused.value.code is grpc.StatusCode.INVALID_ARGUMENT
        [violation] = refused.value.violations
        assert violation.field == "filter"
        assert violation.description.startswith(description)


def test_too_many_allowed_ids_are_refused(client: WinnowClient) -> None:
    assert client.recommend([item_id(1)], allowed_item_ids=["x"] * 10_000).unknown_allowed_count == 10_000
    with pytest.raises(WinnowError, match="allowed_item_ids: has 10001 ids: at most 10000"):
        client.recommend([item_id(1)], allowed_item_ids=["x"] * 10_001)


words = st.sampled_from(
    [*ATTRIBUTE_TYPES, "AND", "OR", "NOT", "-", "(", ")", "=", "!=", "<", ">=", ":", "*", '"', "'", "\\", ",", " ",
     "1990", "true", "2020-01-01", "Comedy", "x*", "*x", "é", "\x00", "null"]
)  # fmt: skip
filters = st.one_of(
    st.lists(words, max_size=30).map(" ".join),
    st.lists(words, max_size=30).map("".join),
    st.text(st.characters(codec="utf-8"), max_size=40),
    st.sampled_from(["(" * 2_000, "-" * 2_000, '"' * 2_000, "year=1 " * 280, "a:(" * 600, "NOT " * 500, "x" * 70_000]),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=filters)
def test_every_filter_gets_an_answer_or_an_invalid_argument(client: WinnowClient, text: str) -> None:
    try:
        answer = client.recommend([item_id(3)], filter=text, count=5)
        assert not answer.degraded
    except WinnowError as error:
        assert error.code is grpc.StatusCode.INVALID_ARGUMENT
        assert [violation.field for violation in error.violations] == ["filter"]


def test_a_release_without_attributes_has_none_to_filter_by(tmp_path: Path) -> None:
    write_random_release(tmp_path, with_attributes=False)
    with (
        local_stack(tmp_path) as stack,
        WinnowClient(stack.gateway_target, timeout_seconds=10) as client,
    ):
        with pytest.raises(WinnowError, match="there is no attribute 'year'; expected no filter: the release has no"):
            client.recommend([item_id(1)], filter="year = 1990")
        assert client.schema().attributes == ()
        assert client.items([item_id(5)]).by_id[item_id(5)].title == item_id(5)
        assert len(client.recommend([item_id(1)], allowed_item_ids=[item_id(7), item_id(9)]).items) == 2


def test_the_schema_says_what_can_be_filtered_by(client: WinnowClient) -> None:
    schema = client.schema()
    assert schema.item_count == ITEM_COUNT
    assert schema.release_id == client.recommend([]).release_id
    assert [attribute.name for attribute in schema.attributes] == list(ATTRIBUTE_TYPES)
    by_name = {attribute.name: attribute for attribute in schema.attributes}
    assert by_name["country"].type is AttributeType.TEXT
    assert by_name["country"].distinct_count == 3
    assert by_name["country"].item_count == sum(value("country", row) is not None for row in range(ITEM_COUNT))
    assert by_name["year"].type is AttributeType.NUMBER
    assert by_name["year"].distinct_count is None
