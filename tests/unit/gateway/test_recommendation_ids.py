"""Ids of answers are UUIDs of version 7: unique, and in the order of time."""

import uuid

import pytest

from gateway.recommendation_ids import RecommendationIds, arm_mark, mark_of


def test_an_id_is_a_uuid_of_version_7_in_its_usual_text() -> None:
    recommendation_id = RecommendationIds().next()
    parsed = uuid.UUID(recommendation_id)
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert str(parsed) == recommendation_id


def test_ids_hold_the_time_and_sort_by_it() -> None:
    times = [1_700_000_000_123_456_789 + step for step in (0, 250, 1_000_000, 10**12)]
    clock = iter(times)
    ids = [RecommendationIds(lambda: next(clock)).next() for _ in times]
    assert ids == sorted(ids)
    assert [uuid.UUID(id_).int >> 80 for id_ in ids] == [time // 1_000_000 for time in times]


def test_ids_of_one_moment_and_of_several_processes_differ() -> None:
    makers = [RecommendationIds(lambda: 1_700_000_000_000_000_000) for _ in range(4)]
    assert len({maker.next() for maker in makers for _ in range(1000)}) == 4000


def test_ids_of_an_arm_carry_its_mark_and_are_as_good_as_others() -> None:
    maker = RecommendationIds(lambda: 1_700_000_000_000_000_000)
    marks = [arm_mark(salt, number) for salt in ("a", "b") for number in range(5)]
    assert len(set(marks)) == 10
    for mark in marks:
        ids = {maker.marked(mark) for _ in range(1000)}
        assert len(ids) == 1000
        assert {mark_of(id_) for id_ in ids} == {mark}
        assert {(uuid.UUID(id_).version, uuid.UUID(id_).variant) for id_ in ids} == {(7, uuid.RFC_4122)}


def test_ids_of_no_arm_hardly_ever_look_like_one() -> None:
    maker, mark = RecommendationIds(), arm_mark("a", 1)
    assert sum(mark_of(maker.next()) == mark for _ in range(20_000)) < 10


@pytest.mark.parametrize("text", ["", "of another service", "x" * 36, "é" * 36, "-" * 36])
def test_what_is_no_id_has_no_mark(text: str) -> None:
    assert mark_of(text) == -1
