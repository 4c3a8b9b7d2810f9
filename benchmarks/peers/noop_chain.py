"""(b) The limit of a Python gRPC chain: three processes, one unary call per stage, stages that compute nothing."""

import sys
from collections.abc import Mapping

from benchmarks.peers.chain import CANDIDATE_COUNT, ChainGateway
from benchmarks.peers.server import Handler, run
from benchmarks.presets import item_id
from winnow.v1 import recommendation_pb2

_CANDIDATES = recommendation_pb2.RetrieveItemsResponse(
    items=[recommendation_pb2.ScoredItem(item_id=item_id(row), score=0.5) for row in range(CANDIDATE_COUNT)]
)


async def retrieve(
    _request: recommendation_pb2.RetrieveItemsRequest, _context: object
) -> recommendation_pb2.RetrieveItemsResponse:
    """Always send the same candidates."""
    return _CANDIDATES


async def rank(request: recommendation_pb2.RankItemsRequest, _context: object) -> recommendation_pb2.RankItemsResponse:
    """Give all items the same score."""
    return recommendation_pb2.RankItemsResponse(
        items=[recommendation_pb2.ScoredItem(item_id=item_id, score=0.5) for item_id in request.item_ids]
    )


def main(role: str, port: str, *targets: str) -> None:
    """Run one of the three processes; the gateway takes the targets of the other two."""

    def handlers() -> Mapping[str, Handler]:
        if role == "gateway":
            return {"RecommendItems": ChainGateway(*targets).recommend}
        return {"RetrieveItems": retrieve} if role == "candidates" else {"RankItems": rank}

    run(int(port), handlers)


if __name__ == "__main__":
    main(*sys.argv[1:])
