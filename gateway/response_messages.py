"""Answers as messages, but for the total time and the recommendation id."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, cast

from gateway.answers import Move, Recommendation, RetrievedRows, ScoredRows, Timing
from gateway.requests import CandidateRequest, RankRequest
from gateway.served_catalogue import ServedCatalogue
from winnow.v1 import recommendation_pb2


class _ScoredItems(Protocol):
    """The repeated field of a response."""

    def add(self, *, item_id: str, score: float) -> Any:
        """Append an item."""


def write_recommended(
    catalogue: ServedCatalogue, request: CandidateRequest, answer: Recommendation
) -> recommendation_pb2.RecommendItemsResponse:
    """Write recommendations, each item with its sources and why it moved."""
    response = recommendation_pb2.RecommendItemsResponse(
        release_id=catalogue.release_id,
        score_type=cast("recommendation_pb2.ScoreType.ValueType", answer.score_type),
        candidate_source=cast("recommendation_pb2.CandidateSource.ValueType", answer.source),
        retrieved_count=answer.retrieved_count,
        ranked_count=answer.ranked_count,
        unknown_history_count=request.unknown_history_count,
        unknown_excluded_count=request.unknown_excluded_count,
        unknown_allowed_count=request.unknown_allowed_count,
        unknown_candidate_count=request.unknown_candidate_count,
        unknown_pinned_count=request.unknown_pinned_count,
        excluded_pinned_count=answer.excluded_pinned_count,
        degradation=recommendation_pb2.Degradation(
            step=cast("recommendation_pb2.DegradationStep.ValueType", answer.degradation),
            reason=answer.degradation_reason,
        ),
        timing=write_timing(answer.timing),
    )
    _add_items(response.items, answer, catalogue)
    for source, places in answer.places:
        _add_source(response.items, source, places.tolist())
    for place, move in answer.moves.items():
        response.items[place].move.CopyFrom(_move(move))
    return response


def write_retrieved(
    catalogue: ServedCatalogue, request: CandidateRequest, answer: RetrievedRows
) -> recommendation_pb2.RetrieveItemsResponse:
    """Write candidates."""
    response = recommendation_pb2.RetrieveItemsResponse(
        release_id=catalogue.release_id,
        score_type=cast("recommendation_pb2.ScoreType.ValueType", answer.score_type),
        candidate_source=cast("recommendation_pb2.CandidateSource.ValueType", answer.source),
        unknown_history_count=request.unknown_history_count,
        unknown_excluded_count=request.unknown_excluded_count,
        unknown_allowed_count=request.unknown_allowed_count,
        timing=write_timing(answer.timing),
    )
    _add_items(response.items, answer, catalogue)
    return response


def write_ranked(
    catalogue: ServedCatalogue, request: RankRequest, answer: ScoredRows
) -> recommendation_pb2.RankItemsResponse:
    """Write the scores of the items asked about."""
    response = recommendation_pb2.RankItemsResponse(
        release_id=catalogue.release_id,
        score_type=cast("recommendation_pb2.ScoreType.ValueType", answer.score_type),
        unknown_history_count=request.unknown_history_count,
        unknown_item_count=request.unknown_item_count,
        timing=write_timing(answer.timing),
    )
    _add_items(response.items, answer, catalogue)
    return response


def write_similar(
    catalogue: ServedCatalogue, request: CandidateRequest, answer: RetrievedRows
) -> recommendation_pb2.SimilarItemsResponse:
    """Write similar items."""
    response = recommendation_pb2.SimilarItemsResponse(
        release_id=catalogue.release_id,
        score_type=cast("recommendation_pb2.ScoreType.ValueType", answer.score_type),
        candidate_source=cast("recommendation_pb2.CandidateSource.ValueType", answer.source),
        unknown_item_count=request.unknown_history_count,
        unknown_excluded_count=request.unknown_excluded_count,
        unknown_allowed_count=request.unknown_allowed_count,
        timing=write_timing(answer.timing),
    )
    _add_items(response.items, answer, catalogue)
    return response


def write_timing(timing: Timing) -> recommendation_pb2.Timing:
    """Write how long each step took."""
    return recommendation_pb2.Timing(
        users_microseconds=timing.users,
        wait_microseconds=timing.wait,
        retrieve_microseconds=timing.retrieve,
        retrieve_compute_microseconds=timing.retrieve_compute,
        rank_microseconds=timing.rank,
        rank_compute_microseconds=timing.rank_compute,
        select_microseconds=timing.select,
        sources_microseconds=timing.sources,
        explain_microseconds=timing.explain,
    )


def _add_items(items: _ScoredItems, answer: ScoredRows, catalogue: ServedCatalogue) -> None:
    """Append the answer's items to a response: half the time of making a list of messages, which would be copied."""
    add = items.add
    for item_id, score in zip(catalogue.vocabulary.item_ids(answer.rows.tolist()), answer.scores.tolist(), strict=True):
        add(item_id=item_id, score=score)


def _add_source(items: Iterable[recommendation_pb2.ScoredItem], source: str, places: Sequence[int]) -> None:
    """Name a source in the items that it has proposed: those whose place is not 0."""
    for item, place in zip(items, places, strict=True):
        if place:
            item.sources.add(source=source, place=place)


def _move(move: Move) -> recommendation_pb2.Move:
    return recommendation_pb2.Move(
        reasons=cast("list[recommendation_pb2.MoveReason.ValueType]", list(move.reasons)),
        ranked_position=move.ranked_position,
    )
