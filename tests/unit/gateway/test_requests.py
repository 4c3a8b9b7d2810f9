"""What a request may carry, and what it becomes."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gateway.requests import CandidateRequest, GivenContext, GivenHistory, GivenRestriction, RequestReader
from gateway.served_catalogue import ServedCatalogue
from gateway.settings import GatewaySettings
from gateway.users import StoredHistory
from tests.releases import item_id
from winnow.history import UNKNOWN_TIME
from winnow.rpc.errors import MAX_VIOLATIONS, InvalidRequestError

READER = RequestReader(
    GatewaySettings(max_history_items=50, max_excluded_items=10, max_candidate_items=7, max_ranked_items=5)
)


def history(*item_ids: str, **known: Any) -> GivenHistory:
    return GivenHistory(length=len(item_ids), item_ids=item_ids, **known)


def recommend(catalogue: ServedCatalogue, given: GivenHistory, **asked: Any) -> CandidateRequest:
    fields: dict[str, Any] = {
        "item_count": 0,
        "excluded_item_ids": (),
        "restriction": GivenRestriction(),
        "include_watched": False,
        "require_ranked": False,
        "context": GivenContext(request_timestamp_seconds=None, unclicked_item_ids=()),
    }
    return READER.recommend(catalogue, 1.0, given, **(fields | asked))


def violations(catalogue: ServedCatalogue, given: GivenHistory, **asked: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidRequestError) as refused:
        recommend(catalogue, given, **asked)
    return [(violation.field, violation.description) for violation in refused.value.violations]


def test_ids_become_rows_and_unknown_ones_are_counted(catalogue: ServedCatalogue) -> None:
    request = recommend(
        catalogue, history(item_id(3), "unknown", item_id(1)), excluded_item_ids=[item_id(9), "unknown", "unknown too"]
    )
    assert request.history.rows.tolist() == [3, 1]
    assert request.excluded.tolist() == [9, 3, 1]
    assert (request.unknown_history_count, request.unknown_excluded_count) == (1, 2)


def test_own_candidates_keep_the_places_that_they_were_given(catalogue: ServedCatalogue) -> None:
    given = [item_id(4), "unknown", item_id(3), item_id(4)]
    request = recommend(catalogue, history(item_id(3)), candidate_item_ids=given)
    assert request.own_candidates is not None
    assert request.own_candidates.rows.tolist() == [4, 3, 4]
    assert request.own_candidates.places.tolist() == [1, 3, 4]
    assert request.unknown_candidate_count == 1
    assert recommend(catalogue, history()).own_candidates is None
    unknown = recommend(catalogue, history(), candidate_item_ids=["unknown"]).own_candidates
    assert unknown is not None
    assert len(unknown.rows) == 0


def test_watched_items_may_be_asked_for(catalogue: ServedCatalogue) -> None:
    request = recommend(catalogue, history(item_id(3)), excluded_item_ids=[item_id(9)], include_watched=True)
    assert request.excluded.tolist() == [9]


def test_what_is_known_of_watches_stays_with_them(catalogue: ServedCatalogue) -> None:
    given = history(item_id(3), "unknown", item_id(1), weights=[5.0, 4.0, None], times=[None, 7, 9])
    watched = recommend(catalogue, given).history
    assert watched.weights[0] == 5
    assert np.isnan(watched.weights[1])
    assert watched.timestamps.tolist() == [UNKNOWN_TIME, 9]


def test_stored_watches_come_before_those_of_the_request(catalogue: ServedCatalogue) -> None:
    stored = StoredHistory(item_ids=[item_id(7), "unknown", item_id(8)], weights=[2.0, 1.0, None], times=[1, 2, 3])
    request = recommend(catalogue, history(item_id(3), "unknown", stored=stored), excluded_item_ids=[item_id(9)])
    assert request.history.rows.tolist() == [7, 8, 3]
    assert request.excluded.tolist() == [9, 7, 8, 3]
    assert request.unknown_history_count == 2
    assert request.history.weights[0] == 2
    assert np.isnan(request.history.weights[1:]).all()
    assert request.history.timestamps.tolist() == [1, 3, UNKNOWN_TIME]
    assert request.stored is stored

    alone = recommend(catalogue, history(stored=stored))
    assert alone.history.rows.tolist() == [7, 8]
    assert recommend(catalogue, history(item_id(3), stored=StoredHistory())).history.rows.tolist() == [3]


@pytest.mark.parametrize("own_count", [0, 1, 20, 50])
def test_of_stored_and_given_watches_the_latest_count(catalogue: ServedCatalogue, own_count: int) -> None:
    stored = StoredHistory(item_ids=[item_id(row) for row in range(60)], weights=[None] * 60, times=list(range(60)))
    own = [item_id(100 + row) for row in range(own_count)]
    request = recommend(catalogue, history(*own, times=list(range(100, 100 + own_count)), stored=stored))
    expected = [*range(60), *range(100, 100 + own_count)][-50:]
    assert request.history.rows.tolist() == request.history.timestamps.tolist() == expected


def test_what_is_wrong_is_named_as_it_was_given(catalogue: ServedCatalogue) -> None:
    stored = StoredHistory(item_ids=[item_id(7)], weights=[None], times=[1])
    assert [field for field, _ in violations(catalogue, history("a", "", stored=stored))] == ["history[1].item_id"]
    assert [field for field, _ in violations(catalogue, GivenHistory(length=51, stored=stored))] == ["history"]


def test_stored_impressions_are_added_to_those_of_the_request(catalogue: ServedCatalogue) -> None:
    reading = replace(catalogue, ranking_reads_contexts=True)
    stored = StoredHistory(unclicked_item_ids=[item_id(row % 9) for row in range(49)])
    context = GivenContext(request_timestamp_seconds=1, unclicked_item_ids=[item_id(20), item_id(21)])
    request = recommend(reading, history(stored=stored), context=context)
    assert request.context is not None
    assert request.context.unclicked[0].tolist() == [*(row % 9 for row in range(1, 49)), 20, 21]
    assert recommend(catalogue, history(stored=stored), context=context).context is None


@pytest.mark.parametrize(("asked", "given"), [(0, 20), (7, 7), (100, 100)])
def test_counts(catalogue: ServedCatalogue, asked: int, given: int) -> None:
    request = recommend(catalogue, history(), item_count=asked)
    assert request.item_count == given
    assert request.candidate_count == 200


@pytest.mark.parametrize(
    ("given", "asked", "field"),
    [
        (history("a" * 513), {}, "history[0].item_id"),
        (history(item_id(1), "\u00e9" * 257), {}, "history[1].item_id"),
        (history(""), {}, "history[0].item_id"),
        (history("a", weights=[float("nan")]), {}, "history[0].weight"),
        (history("a", weights=[float("inf")]), {}, "history[0].weight"),
        (history("a", "b", weights=[None, -1.0]), {}, "history[1].weight"),
        (history("a", times=[1_700_000_000_000]), {}, "history[0].timestamp_seconds"),
        (history("a", times=[UNKNOWN_TIME]), {}, "history[0].timestamp_seconds"),
        (GivenHistory(length=51), {}, "history"),
        (history(), {"item_count": -1}, "item_count"),
        (history(), {"item_count": 101}, "item_count"),
        (history(), {"excluded_item_ids": ["a"] * 11}, "excluded_item_ids"),
        (history(), {"excluded_item_ids": ["a", ""]}, "excluded_item_ids[1]"),
        (history(), {"candidate_item_ids": ["a"] * 8}, "candidate_item_ids"),
        (history(), {"candidate_item_ids": ["a", "b" * 513]}, "candidate_item_ids[1]"),
        (history(), {"context": GivenContext(request_timestamp_seconds=None, unclicked_item_ids=["a"] * 51)},
         "unclicked_item_ids"),
        (history(), {"context": GivenContext(request_timestamp_seconds=1 << 60, unclicked_item_ids=())},
         "request_timestamp_seconds"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(
    catalogue: ServedCatalogue, given: GivenHistory, asked: dict[str, Any], field: str
) -> None:
    [(found, description)] = violations(catalogue, given, **asked)
    assert found == field
    assert description


def test_everything_that_is_wrong_is_named_at_once(catalogue: ServedCatalogue) -> None:
    found = violations(catalogue, history("", weights=[-1.0]), item_count=-1, excluded_item_ids=[""])
    assert [field for field, _ in found] == [
        "item_count", "history[0].item_id", "history[0].weight", "excluded_item_ids[0]"
    ]  # fmt: skip


def test_the_search_for_violations_ends_at_the_most_that_are_sent(catalogue: ServedCatalogue) -> None:
    looked_at = []

    class Weights(list[float]):
        def __iter__(self) -> Any:
            for weight in super().__iter__():
                looked_at.append(weight)
                yield weight

    given = GivenHistory(length=50, item_ids=["a"] * 50, weights=Weights([float("nan")] * 50))
    assert len(violations(catalogue, given)) == MAX_VIOLATIONS
    assert len(looked_at) == MAX_VIOLATIONS


def test_items_to_rank_are_scored_once(catalogue: ServedCatalogue) -> None:
    request = READER.rank(
        catalogue,
        1.0,
        history(item_id(1)),
        item_ids=[item_id(9), item_id(4), item_id(9), "unknown"],
        context=GivenContext(request_timestamp_seconds=None, unclicked_item_ids=()),
    )
    assert request.rows.tolist() == [9, 4]
    assert request.unknown_item_count == 1


@pytest.mark.parametrize("item_ids", [(), ["a"] * 6])
def test_too_few_or_too_many_items_to_rank(catalogue: ServedCatalogue, item_ids: list[str]) -> None:
    with pytest.raises(InvalidRequestError, match=r"^item_ids: "):
        READER.rank(
            catalogue,
            1.0,
            history(),
            item_ids=item_ids,
            context=GivenContext(request_timestamp_seconds=None, unclicked_item_ids=()),
        )


def test_a_restriction_is_read(catalogue: ServedCatalogue) -> None:
    given = GivenRestriction(filter="year>=2000", allowed_item_ids=[item_id(9), "unknown", item_id(3)])
    request = recommend(catalogue, history(item_id(3)), restriction=given)
    assert request.restriction.filter == "year >= 2000"
    assert request.restriction.allowed is not None
    assert request.restriction.allowed.tolist() == [9, 3]
    assert request.unknown_allowed_count == 1
    assert not recommend(catalogue, history()).restriction
    unknown = recommend(catalogue, history(), restriction=GivenRestriction(allowed_item_ids=["unknown"])).restriction
    assert unknown.allowed is not None
    assert unknown.allowed.tolist() == []


def test_a_filter_and_allowed_ids_are_checked_with_the_rest(catalogue: ServedCatalogue) -> None:
    given = GivenRestriction(filter="year", allowed_item_ids=["x", ""])
    found = violations(catalogue, history(""), restriction=given)
    assert [field for field, _ in found] == ["history[0].item_id", "filter", "allowed_item_ids[1]"]
