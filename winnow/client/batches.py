"""Many requests in few calls."""

from collections.abc import Iterable, Sequence

import grpc

from winnow.client.answers import Recommendations
from winnow.client.errors import WinnowError
from winnow.client.request_messages import RecommendationRequest, recommend_request
from winnow.client.response_messages import recommendations
from winnow.rpc.violations import Violation
from winnow.v1 import recommendation_pb2

# The contract's maxima.
MAX_REQUESTS = 256
MAX_EXPLAINED_WATCHES = 50
# Half of the largest message that a gateway takes by default.
MAX_BYTES = 2 * 1024 * 1024

_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def batch_requests(
    requests: Iterable[RecommendationRequest],
) -> list[recommendation_pb2.BatchRecommendItemsRequest]:
    """Return as few calls as possible, in order. Raise TypeError or ValueError that names request and argument."""
    return packed([_message(position, request) for position, request in enumerate(requests)])


def packed(
    messages: Sequence[recommendation_pb2.RecommendItemsRequest],
) -> list[recommendation_pb2.BatchRecommendItemsRequest]:
    """Return as few batches of these messages, in order, as the limits of a call allow."""
    batches: list[recommendation_pb2.BatchRecommendItemsRequest] = []
    size = 0
    for message in messages:
        size += message.ByteSize()
        if not batches or len(batches[-1].requests) == MAX_REQUESTS or size > MAX_BYTES:
            batches.append(recommendation_pb2.BatchRecommendItemsRequest())
            size = message.ByteSize()
        batches[-1].requests.append(message)
    return batches


def outcomes(response: recommendation_pb2.BatchRecommendItemsResponse) -> list[Recommendations | WinnowError]:
    """Read the answer of BatchRecommendItems."""
    return [
        _error(result.status, f"requests[{position}].")
        if result.WhichOneof("outcome") == "status"
        else recommendations(result.response)
        for position, result in enumerate(response.results)
    ]


def explain_request(
    request: RecommendationRequest, item_id: str, *, watch_count: int
) -> recommendation_pb2.ExplainItemRequest:
    """Raise TypeError or ValueError that names the argument."""
    if not isinstance(request, RecommendationRequest):
        raise TypeError(f"request is of type {type(request).__name__}: a RecommendationRequest is needed")
    if not isinstance(item_id, str):
        raise TypeError(f"item_id is of type {type(item_id).__name__}: str is needed")
    if not 1 <= watch_count <= MAX_EXPLAINED_WATCHES:
        raise ValueError(f"watch_count is {watch_count}: it has to be from 1 to {MAX_EXPLAINED_WATCHES}")
    return recommendation_pb2.ExplainItemRequest(
        item_id=item_id, request=recommend_request(request), watch_count=watch_count
    )


def _message(position: int, request: RecommendationRequest) -> recommendation_pb2.RecommendItemsRequest:
    try:
        return recommend_request(request)
    except (TypeError, ValueError) as error:
        raise type(error)(f"requests[{position}].{error}") from None


def _error(status: recommendation_pb2.RequestStatus, prefix: str) -> WinnowError:
    """The error of one request, as its own call would have raised it: fields are named without the batch's prefix."""
    violations = tuple(
        Violation(violation.field.removeprefix(prefix), violation.description) for violation in status.violations
    )
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    return WinnowError(code, status.message.removeprefix(prefix), violations)
