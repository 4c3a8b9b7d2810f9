"""Ids of answers are UUIDs of version 7: unique, and in the order of time."""

import uuid

from gateway.recommendation_ids import RecommendationIds


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
