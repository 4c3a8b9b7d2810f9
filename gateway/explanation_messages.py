"""Explanations as messages, in both directions."""

from collections.abc import Sequence
from typing import cast

from gateway.explanation import ExplainRequest, Explanation, RankingExplanation, RetrievalExplanation
from gateway.requests import CandidateRequest
from gateway.served_catalogue import ServedCatalogue
from winnow.v1 import recommendation_pb2


def read_explained(
    message: recommendation_pb2.ExplainItemRequest,
    recommendation: CandidateRequest,
    watch_count: int,
    catalogue: ServedCatalogue,
    watched_ids: Sequence[str],
) -> ExplainRequest:
    """Read which item is explained, and how it stands to the recommendation that `message.request` has become.

    `watched_ids` are those of the history, stored watches included.
    """
    stored = recommendation.stored
    rows, unknown_count = catalogue.vocabulary.rows([message.item_id])
    row = None if unknown_count else int(rows[0])
    # They apply after ranking, and are explained by the `move` of each item of an answer.
    recommendation.rules = None
    positions = [position for position, item_id in enumerate(watched_ids) if item_id in catalogue.vocabulary]
    return ExplainRequest(
        row=row,
        recommendation=recommendation,
        excluded=message.item_id in message.request.excluded_item_ids,
        watched=not message.request.include_watched and message.item_id in watched_ids,
        dismissed=stored is not None and message.item_id in stored.dismissed_item_ids,
        watch_count=watch_count,
        positions=positions,
    )


def write_explanation(
    catalogue: ServedCatalogue, request: ExplainRequest, answer: Explanation
) -> recommendation_pb2.ExplainItemResponse:
    """Write the answer, but for its timing."""
    asked = request.recommendation
    watched_ids = catalogue.vocabulary.item_ids(contribution.row for contribution in answer.contributions)
    return recommendation_pb2.ExplainItemResponse(
        release_id=catalogue.release_id,
        retrieval=_retrieval(answer.retrieval),
        ranking=None if answer.ranking is None else _ranking(answer.ranking),
        contributions=[
            recommendation_pb2.WatchContribution(
                position=contribution.position,
                item_id=item_id,
                candidate_logit=contribution.candidate_logit,
                ranking_score=contribution.ranking_score,
            )
            for item_id, contribution in zip(watched_ids, answer.contributions, strict=True)
        ],
        unknown_history_count=asked.unknown_history_count,
        unknown_excluded_count=asked.unknown_excluded_count,
        unknown_allowed_count=asked.unknown_allowed_count,
    )


def _retrieval(explained: RetrievalExplanation) -> recommendation_pb2.RetrievalExplanation:
    return recommendation_pb2.RetrievalExplanation(
        place=explained.place,
        absence_reasons=[
            cast("recommendation_pb2.AbsenceReason.ValueType", reason.value) for reason in explained.reasons
        ],
        unmet_conditions=explained.unmet_conditions,
        score=explained.score,
        cut_score=explained.cut_score,
        score_type=cast("recommendation_pb2.ScoreType.ValueType", explained.score_type or 0),
        candidate_source=cast("recommendation_pb2.CandidateSource.ValueType", explained.source or 0),
        retrieved_count=explained.retrieved_count,
        sources=[recommendation_pb2.ItemSource(source=source, place=place) for source, place in explained.further],
    )


def _ranking(explained: RankingExplanation) -> recommendation_pb2.RankingExplanation:
    return recommendation_pb2.RankingExplanation(
        score=explained.score,
        score_type=cast("recommendation_pb2.ScoreType.ValueType", explained.score_type),
        place=explained.place,
        ranked_count=explained.ranked_count,
    )
