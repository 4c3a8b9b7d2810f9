"""The union of what several sources propose: every item once, with the sources that have it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.answers import CandidateSource
from gateway.sources.further import places_of, unite
from gateway.sources.gathered import Gathered
from gateway.sources.proposed import Proposed, numbered
from tests.unit.gateway.stages import rows


def gathered(*candidates: int, source: CandidateSource = CandidateSource.NETWORK) -> Gathered:
    return Gathered(rows=rows(*candidates), scores=-rows(*candidates).astype(np.float32), source=source, microseconds=5)


def proposed(source: str, *candidates: int, places: list[int] | None = None) -> Proposed:
    return Proposed(
        source, rows(*candidates), numbered(len(candidates)) if places is None else np.array(places, dtype=np.int32)
    )


def named(answer: list[int], united: Gathered) -> dict[str, list[int]]:
    return {source: places.tolist() for source, places in places_of(rows(*answer), united.proposed)}


def test_every_candidate_is_there_once_with_the_places_that_it_has() -> None:
    united = unite(gathered(1, 2, 3, 4), [proposed("trending", 9, 3), proposed("caller", 3, 7, places=[2, 5])])
    assert sorted(united.rows.tolist()) == [1, 2, 3, 4, 7, 9]
    assert united.rows.dtype == np.int32
    assert named([3, 7, 1], united) == {"network": [3, 0, 1], "trending": [2, 0, 0], "caller": [2, 5, 0]}
    assert united.microseconds == 5


def test_popular_items_are_named_as_such() -> None:
    united = unite(gathered(1, 2, source=CandidateSource.POPULAR), [proposed("fresh", 2)])
    assert named([2], united) == {"popular": [2], "fresh": [1]}


def test_of_the_same_item_twice_in_a_list_the_better_place_counts() -> None:
    united = unite(gathered(1), [proposed("caller", 8, 9, 8)])
    assert united.rows.tolist().count(8) == 1
    assert named([8], united)["caller"] == [1]


def test_a_source_may_have_nothing_and_so_may_all() -> None:
    assert unite(gathered(1, 2), [proposed("fresh")]).rows.tolist() == [1, 2]
    assert named([1], unite(gathered(1, 2), [proposed("fresh")])) == {"network": [1], "fresh": [0]}
    assert unite(gathered(), [proposed("fresh")]).rows.tolist() == []
    assert unite(gathered(), [proposed("fresh", 4)]).rows.tolist() == [4]


def test_scores_stay_with_the_candidates_that_have_one() -> None:
    united = unite(gathered(1, 2), [proposed("fresh", 2, 3)])
    scores = dict(zip(united.rows.tolist(), united.scores.tolist(), strict=True))
    assert (scores[1], scores[2]) == (-1, -2)
    assert np.isnan(scores[3])


lists = st.lists(st.integers(0, 40), max_size=30)


@given(st.lists(st.integers(0, 40), unique=True, max_size=30), st.lists(lists, min_size=1, max_size=4))
def test_any_lists(network: list[int], others: list[list[int]]) -> None:
    named_lists = {"network": network} | {f"source-{number}": found for number, found in enumerate(others)}
    united = unite(
        gathered(*network), [proposed(name, *found) for name, found in named_lists.items() if name != "network"]
    )
    everything = united.rows.tolist()
    assert len(everything) == len(set(everything))
    assert set(everything) == set().union(*named_lists.values())
    assert [row for row in everything if row in network and not any(row in found for found in others)] == [
        row for row in network if not any(row in found for found in others)
    ]
    for name, places in places_of(united.rows, united.proposed):
        found = named_lists[name]
        assert places.tolist() == [found.index(row) + 1 if row in found else 0 for row in everything]


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_a_cut_takes_from_every_source_the_same_share(share: float) -> None:
    united = unite(gathered(*range(200)), [proposed("caller", *range(200, 300)), proposed("fresh", *range(300, 340))])
    kept = united.rows[: int(340 * share)]
    for first, last in [(0, 200), (200, 300), (300, 340)]:
        count = int(((kept >= first) & (kept < last)).sum())
        assert count == pytest.approx(share * (last - first), abs=1)
