"""(a) The limit of a Python gRPC edge: one process, the gateway's own messages, and a prepared answer."""

import sys
from collections.abc import Mapping

from benchmarks.peers.server import Handler, run
from benchmarks.presets import item_id
from winnow.v1 import recommendation_pb2

_ANSWER = recommendation_pb2.RecommendItemsResponse(
    items=[recommendation_pb2.ScoredItem(item_id=item_id(row), score=0.5) for row in range(20)],
    release_id="20260101T000000Z-000000000000",
    degradation=recommendation_pb2.Degradation(step=recommendation_pb2.DEGRADATION_STEP_NONE),
)


async def recommend(
    _request: recommendation_pb2.RecommendItemsRequest, _context: object
) -> recommendation_pb2.RecommendItemsResponse:
    """Send the prepared answer; gRPC has already parsed the request."""
    return _ANSWER


def _handlers() -> Mapping[str, Handler]:
    return {"RecommendItems": recommend}


if __name__ == "__main__":
    run(int(sys.argv[1]), _handlers)
