"""Why an item is not a candidate, where it would rank, and what a failing stage makes of an explanation."""

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
import pytest

from gateway.answers import CandidateSource, ScoreType
from gateway.explanation import AbsenceReason, ExplainRequest, Explanation
from gateway.served_catalogue import ServedCatalogue
from gateway.stage_calls import StageFailure
from tests.unit.gateway.stages import Chain, candidate_request, rows, status
from winnow.queries import Restriction
from winnow.rpc.errors import StageUnavailableError
from winnow.serving.wire import FLOAT32, INT32, pack_array

NOT_HELD = status(grpc.StatusCode.FAILED_PRECONDITION)


def explain(
    chain: Chain,
    row: int | None,
    *watched: int,
    restriction: Restriction | None = None,
    other_release: bool = False,
    own_candidates: Sequence[int] | None = None,
    **known: Any,
) -> Explanation:
    async def ask() -> Explanation:
        request = ExplainRequest(
            row=row,
            recommendation=candidate_request(
                *watched, restriction=restriction or Restriction(), own_candidates=own_candidates
            ),
            positions=range(len(watched)),
            **({"excluded": False, "watched": row in watched, "dismissed": False, "watch_count": 20} | known),
        )
        return await chain.pipeline.explain(request, other_release=other_release)

    return asyncio.run(ask())


def test_a_candidate_has_its_place_in_both_stages(catalogue: ServedCatalogue) -> None:
    # Candidates are 1, 3, 4 ... 11; ranking turns their order round.
    answer = explain(Chain(catalogue), 4, 0, 2)
    assert (answer.retrieval.place, answer.retrieval.reasons) == (3, ())
    assert (answer.retrieval.score, answer.retrieval.cut_score) == (-4, -11)
    assert answer.retrieval.source is CandidateSource.NETWORK
    assert answer.retrieval.score_type is ScoreType.CANDIDATE_LOGIT
    assert answer.ranking is not None
    assert (answer.ranking.place, answer.ranking.ranked_count, answer.ranking.score) == (8, 10, 4)
    assert [(watch.position, watch.row) for watch in answer.contributions] == [(0, 0), (1, 2)]
    assert None not in (answer.timing.retrieve, answer.timing.rank, answer.timing.explain)


def test_below_the_cut_it_is_told_by_how_much_and_where_it_would_rank(catalogue: ServedCatalogue) -> None:
    answer = explain(Chain(catalogue), 40, 0, 2)
    assert (answer.retrieval.place, answer.retrieval.reasons) == (None, [AbsenceReason.BELOW_CUT])
    assert (answer.retrieval.score, answer.retrieval.cut_score) == (-40, -11)
    assert answer.ranking is not None
    assert (answer.ranking.place, answer.ranking.ranked_count) == (1, 10)


def test_what_another_source_proposed_is_ranked_though_it_is_below_the_cut(catalogue: ServedCatalogue) -> None:
    answer = explain(Chain(catalogue), 40, 0, 2, own_candidates=[30, 40])
    assert (answer.retrieval.place, answer.retrieval.reasons) == (None, [AbsenceReason.BELOW_CUT])
    assert (answer.retrieval.retrieved_count, answer.retrieval.cut_score) == (10, -11)
    assert answer.retrieval.further == [("caller", 2)]
    assert answer.ranking is not None
    assert (answer.ranking.place, answer.ranking.ranked_count) == (1, 12)
    assert explain(Chain(catalogue), 4, 0, 2, own_candidates=[30]).retrieval.place == 3


def test_every_reason_that_holds_is_given(catalogue: ServedCatalogue) -> None:
    restriction = Restriction(filter='country = "DE" AND year >= 2000', allowed=rows(12, 15))
    answer = explain(Chain(catalogue), 4, 4, restriction=restriction, excluded=True)
    assert answer.retrieval.reasons == [
        AbsenceReason.EXCLUDED,
        AbsenceReason.WATCHED,
        AbsenceReason.NOT_ALLOWED,
        AbsenceReason.FILTERED,
    ]
    assert answer.retrieval.unmet_conditions == ['country = "DE"', "year >= 2000"]


def test_an_item_that_the_index_missed_is_told_apart(catalogue: ServedCatalogue) -> None:
    chain = Chain(catalogue)

    def miss_row_3(answer: Any) -> None:
        answer.candidates.rows = pack_array(rows(1, *range(4, 13)), INT32)
        answer.scores = pack_array(-rows(1, *range(4, 13)), FLOAT32)

    chain.candidate.outcomes = [miss_row_3]
    assert explain(chain, 3, 0, 2).retrieval.reasons == [AbsenceReason.MISSED]


def test_of_an_unknown_item_nothing_is_asked(catalogue: ServedCatalogue) -> None:
    chain = Chain(catalogue)
    answer = explain(chain, None, 0, 2)
    assert answer.retrieval.reasons == [AbsenceReason.UNKNOWN]
    assert (answer.retrieval.score, answer.ranking, answer.contributions) == (None, None, ())
    assert not chain.candidate.requests
    assert not chain.ranking.requests


def test_popular_items_are_explained_by_popularity(catalogue: ServedCatalogue) -> None:
    found = explain(Chain(catalogue), 9)
    assert found.retrieval.place == 10
    assert found.retrieval.source is CandidateSource.POPULAR
    assert found.retrieval.score == pytest.approx(float(catalogue.popularity[9]))
    assert found.contributions == []
    missing = explain(Chain(catalogue), 10)
    assert missing.retrieval.reasons == [AbsenceReason.BELOW_CUT]


@pytest.mark.parametrize("stage", ["candidate", "ranking"])
@pytest.mark.parametrize("call", [0, 1])
def test_without_a_stage_there_is_no_explanation(catalogue: ServedCatalogue, stage: str, call: int) -> None:
    chain = Chain(catalogue)
    getattr(chain, stage).outcomes = [*[None] * call, status(grpc.StatusCode.INTERNAL)]
    with pytest.raises(StageUnavailableError, match=f"{stage}: INTERNAL"):
        explain(chain, 4, 0)


@pytest.mark.parametrize("stage", ["candidate", "ranking"])
@pytest.mark.parametrize("call", [0, 1])
def test_a_release_that_a_stage_does_not_hold_is_left_to_another_one(
    catalogue: ServedCatalogue, stage: str, call: int
) -> None:
    chain = Chain(catalogue)
    getattr(chain, stage).outcomes = [*[None] * call, NOT_HELD, NOT_HELD]
    with pytest.raises(StageFailure) as failure:
        explain(chain, 4, 0, other_release=True)
    assert failure.value.release_missing


def test_a_stage_that_hangs_ends_the_explanation_in_time(catalogue: ServedCatalogue) -> None:
    chain = Chain(catalogue)
    chain.candidate.outcomes = [None, 5.0]
    with pytest.raises(StageUnavailableError):
        explain(chain, 4, 0)
