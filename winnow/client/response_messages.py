"""From response messages to answers."""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any, TypeVar

from winnow.client.answers import (
    Attribute,
    AttributeType,
    CandidateSource,
    Degradation,
    DegradationStep,
    Item,
    Items,
    ItemSource,
    Move,
    MoveReason,
    RankedItems,
    Recommendations,
    ReleaseSchema,
    RetrievedItems,
    ScoredItem,
    ScoreType,
    SearchPage,
    Timing,
)
from winnow.client.explanations import (
    AbsenceReason,
    Explanation,
    RankingExplanation,
    RetrievalExplanation,
    SimilarItems,
    WatchContribution,
)
from winnow.v1 import catalogue_pb2, recommendation_pb2

Member = TypeVar("Member", bound=StrEnum)


def _by_number(members: type[Member], numbers: Any, prefix: str) -> dict[int, Member]:
    """The member for each number that a message may carry; 0 is never sent."""
    return {number: members(name.removeprefix(prefix)) for name, number in numbers.items() if number}


_SCORE_TYPES = _by_number(ScoreType, recommendation_pb2.ScoreType, "SCORE_TYPE_")
_CANDIDATE_SOURCES = _by_number(CandidateSource, recommendation_pb2.CandidateSource, "CANDIDATE_SOURCE_")
_MOVE_REASONS = _by_number(MoveReason, recommendation_pb2.MoveReason, "MOVE_REASON_")
_ATTRIBUTE_TYPES = _by_number(AttributeType, catalogue_pb2.AttributeType, "ATTRIBUTE_TYPE_")
_ABSENCE_REASONS = _by_number(AbsenceReason, recommendation_pb2.AbsenceReason, "ABSENCE_REASON_")
_DEGRADATION_STEPS = _by_number(DegradationStep, recommendation_pb2.DegradationStep, "DEGRADATION_STEP_")


def recommendations(response: recommendation_pb2.RecommendItemsResponse) -> Recommendations:
    """Read the answer of RecommendItems."""
    return Recommendations(
        items=_scored(response.items),
        release_id=response.release_id,
        score_type=_SCORE_TYPES.get(response.score_type, ScoreType.UNKNOWN),
        candidate_source=_CANDIDATE_SOURCES.get(response.candidate_source, CandidateSource.UNKNOWN),
        retrieved_count=response.retrieved_count,
        ranked_count=response.ranked_count,
        unknown_history_count=response.unknown_history_count,
        unknown_excluded_count=response.unknown_excluded_count,
        unknown_allowed_count=response.unknown_allowed_count,
        unknown_candidate_count=response.unknown_candidate_count,
        unknown_pinned_count=response.unknown_pinned_count,
        excluded_pinned_count=response.excluded_pinned_count,
        degradation=Degradation(
            step=_DEGRADATION_STEPS.get(response.degradation.step, DegradationStep.UNKNOWN),
            reason=response.degradation.reason,
        ),
        timing=_timing(response.timing),
        recommendation_id=response.recommendation_id,
        experiment_arm=response.experiment_arm,
    )


def retrieved_items(response: recommendation_pb2.RetrieveItemsResponse) -> RetrievedItems:
    """Read the answer of RetrieveItems."""
    return RetrievedItems(
        items=_scored(response.items),
        release_id=response.release_id,
        score_type=_SCORE_TYPES.get(response.score_type, ScoreType.UNKNOWN),
        candidate_source=_CANDIDATE_SOURCES.get(response.candidate_source, CandidateSource.UNKNOWN),
        unknown_history_count=response.unknown_history_count,
        unknown_excluded_count=response.unknown_excluded_count,
        unknown_allowed_count=response.unknown_allowed_count,
        timing=_timing(response.timing),
        recommendation_id=response.recommendation_id,
        experiment_arm=response.experiment_arm,
    )


def ranked_items(response: recommendation_pb2.RankItemsResponse) -> RankedItems:
    """Read the answer of RankItems."""
    return RankedItems(
        items=_scored(response.items),
        release_id=response.release_id,
        score_type=_SCORE_TYPES.get(response.score_type, ScoreType.UNKNOWN),
        unknown_history_count=response.unknown_history_count,
        unknown_item_count=response.unknown_item_count,
        timing=_timing(response.timing),
        recommendation_id=response.recommendation_id,
        experiment_arm=response.experiment_arm,
    )


def similar_items(response: recommendation_pb2.SimilarItemsResponse) -> SimilarItems:
    """Read the answer of SimilarItems."""
    return SimilarItems(
        items=_scored(response.items),
        release_id=response.release_id,
        score_type=_SCORE_TYPES.get(response.score_type, ScoreType.UNKNOWN),
        candidate_source=_CANDIDATE_SOURCES.get(response.candidate_source, CandidateSource.UNKNOWN),
        unknown_item_count=response.unknown_item_count,
        unknown_excluded_count=response.unknown_excluded_count,
        unknown_allowed_count=response.unknown_allowed_count,
        timing=_timing(response.timing),
        recommendation_id=response.recommendation_id,
    )


def explanation(response: recommendation_pb2.ExplainItemResponse) -> Explanation:
    """Read the answer of ExplainItem."""
    return Explanation(
        release_id=response.release_id,
        retrieval=_retrieval_explanation(response.retrieval),
        ranking=_ranking_explanation(response.ranking) if response.HasField("ranking") else None,
        contributions=tuple(
            WatchContribution(
                position=contribution.position,
                item_id=contribution.item_id,
                candidate_logit=contribution.candidate_logit,
                ranking_score=contribution.ranking_score,
            )
            for contribution in response.contributions
        ),
        unknown_history_count=response.unknown_history_count,
        unknown_excluded_count=response.unknown_excluded_count,
        unknown_allowed_count=response.unknown_allowed_count,
        timing=_timing(response.timing),
        recommendation_id=response.recommendation_id,
        experiment_arm=response.experiment_arm,
    )


def items(responses: Sequence[catalogue_pb2.BatchGetItemsResponse]) -> Items:
    """Read the answers of BatchGetItems to all requests of one look-up."""
    return Items(
        by_id={item.item_id: _item(item) for response in responses for item in response.items},
        unknown_item_ids=tuple(item_id for response in responses for item_id in response.unknown_item_ids),
        release_ids=tuple(dict.fromkeys(response.release_id for response in responses)),
    )


def search_page(response: catalogue_pb2.SearchItemsResponse) -> SearchPage:
    """Read the answer of SearchItems."""
    return SearchPage(
        items=tuple(map(_item, response.items)),
        next_page_token=response.next_page_token or None,
        release_id=response.release_id,
    )


def release_schema(response: catalogue_pb2.GetReleaseSchemaResponse) -> ReleaseSchema:
    """Read the answer of GetReleaseSchema."""
    return ReleaseSchema(
        attributes=tuple(
            Attribute(
                name=attribute.name,
                type=_ATTRIBUTE_TYPES.get(attribute.type, AttributeType.UNKNOWN),
                item_count=attribute.item_count,
                distinct_count=attribute.distinct_count if attribute.HasField("distinct_count") else None,
            )
            for attribute in response.attributes
        ),
        item_count=response.item_count,
        release_id=response.release_id,
    )


def _scored(scored: Iterable[recommendation_pb2.ScoredItem]) -> tuple[ScoredItem, ...]:
    return tuple(
        ScoredItem(
            item_id=item.item_id,
            score=item.score,
            sources=_sources(item.sources) if item.sources else (),
            move=_move(item.move) if item.HasField("move") else None,
        )
        for item in scored
    )


def _sources(sources: Iterable[recommendation_pb2.ItemSource]) -> tuple[ItemSource, ...]:
    return tuple(ItemSource(source=named.source, place=named.place) for named in sources)


def _retrieval_explanation(found: recommendation_pb2.RetrievalExplanation) -> RetrievalExplanation:
    known = found.HasField("score")
    return RetrievalExplanation(
        place=found.place if found.HasField("place") else None,
        absence_reasons=tuple(_ABSENCE_REASONS.get(reason, AbsenceReason.OTHER) for reason in found.absence_reasons),
        unmet_conditions=tuple(found.unmet_conditions),
        score=found.score if known else None,
        cut_score=found.cut_score if found.HasField("cut_score") else None,
        score_type=_SCORE_TYPES.get(found.score_type, ScoreType.UNKNOWN) if known else None,
        candidate_source=_CANDIDATE_SOURCES.get(found.candidate_source, CandidateSource.UNKNOWN) if known else None,
        retrieved_count=found.retrieved_count,
        sources=_sources(found.sources),
    )


def _ranking_explanation(found: recommendation_pb2.RankingExplanation) -> RankingExplanation:
    return RankingExplanation(
        score=found.score,
        score_type=_SCORE_TYPES.get(found.score_type, ScoreType.UNKNOWN),
        place=found.place,
        ranked_count=found.ranked_count,
    )


def _move(move: recommendation_pb2.Move) -> Move:
    return Move(
        reasons=tuple(_MOVE_REASONS.get(reason, MoveReason.UNKNOWN) for reason in move.reasons),
        ranked_position=move.ranked_position if move.HasField("ranked_position") else None,
    )


def _item(item: catalogue_pb2.Item) -> Item:
    return Item(item_id=item.item_id, title=item.title, attributes=dict(item.attributes))


def _timing(timing: recommendation_pb2.Timing) -> Timing:
    sent = {field.name: microseconds / 1000 for field, microseconds in timing.ListFields()}
    return Timing(
        total_milliseconds=timing.total_microseconds / 1000,
        users_milliseconds=sent.get("users_microseconds"),
        wait_milliseconds=sent.get("wait_microseconds"),
        retrieve_milliseconds=sent.get("retrieve_microseconds"),
        retrieve_compute_milliseconds=sent.get("retrieve_compute_microseconds"),
        rank_milliseconds=sent.get("rank_microseconds"),
        rank_compute_milliseconds=sent.get("rank_compute_microseconds"),
        select_milliseconds=sent.get("select_microseconds"),
        sources_milliseconds=sent.get("sources_microseconds"),
        explain_milliseconds=sent.get("explain_microseconds"),
    )
