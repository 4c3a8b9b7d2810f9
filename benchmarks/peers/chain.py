"""A naive chain: the gateway makes one unary call per stage and request, with string ids."""

import grpc

from winnow.v1 import recommendation_pb2, recommendation_pb2_grpc

CANDIDATE_COUNT = 200
TIMEOUT_SECONDS = 30.0
NOT_DEGRADED = recommendation_pb2.Degradation(step=recommendation_pb2.DEGRADATION_STEP_NONE)


class ChainGateway:
    """Calls RetrieveItems of one process and RankItems of the other, and returns the best items."""

    def __init__(self, candidate_target: str, ranking_target: str) -> None:
        self._candidates = recommendation_pb2_grpc.RecommendationServiceStub(
            grpc.aio.insecure_channel(candidate_target)
        )
        self._ranking = recommendation_pb2_grpc.RecommendationServiceStub(grpc.aio.insecure_channel(ranking_target))

    async def recommend(
        self, request: recommendation_pb2.RecommendItemsRequest, _context: object
    ) -> recommendation_pb2.RecommendItemsResponse:
        """Retrieve, rank and cut to the requested count."""
        retrieved = await self._candidates.RetrieveItems(
            recommendation_pb2.RetrieveItemsRequest(history=request.history, item_count=CANDIDATE_COUNT),
            timeout=TIMEOUT_SECONDS,
        )
        ranked = await self._ranking.RankItems(
            recommendation_pb2.RankItemsRequest(
                history=request.history, item_ids=[item.item_id for item in retrieved.items]
            ),
            timeout=TIMEOUT_SECONDS,
        )
        best = sorted(ranked.items, key=lambda item: item.score, reverse=True)[: request.item_count]
        return recommendation_pb2.RecommendItemsResponse(
            items=best, release_id=retrieved.release_id, degradation=NOT_DEGRADED
        )
