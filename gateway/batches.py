"""Batches of requests: each is parsed, answered and, where it fails, explained by itself."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from winnow.rpc.errors import WHOLE_REQUEST, InvalidRequestError, OverloadedError, ServiceError, UnavailableError
from winnow.rpc.violations import Violation
from winnow.serving.boundary import log_error
from winnow.serving.decoding import LENGTH_DELIMITED, SIZES, VARINT, varint
from winnow.serving.metrics import Metrics
from winnow.v1 import recommendation_pb2

MAX_REQUESTS = 256
# Requests are taken up for this long at a time, and a single one that takes longer as long as it takes alone.
SECONDS_PER_TURN = 0.004

_REQUESTS = recommendation_pb2.BatchRecommendItemsRequest.DESCRIPTOR.fields_by_name["requests"].number
# Of later versions.
_MAX_OTHER_FIELDS = 100

Answer = Callable[[bytes], Awaitable[recommendation_pb2.RecommendItemsResponse]]


def split(data: bytes) -> list[bytes] | InvalidRequestError:
    """Return the bytes of each request of a BatchRecommendItemsRequest, unparsed, or what is wrong with the batch.

    Parsing a whole batch at once could hold the event loop for long, and one bad request would spoil all the others.
    Here no more is looked at than a batch may hold.
    """
    requests: list[bytes] = []
    others = position = 0
    try:
        while position < len(data):
            tag, position = varint(data, position)
            number, wire_type = tag >> 3, tag & 7
            if wire_type == LENGTH_DELIMITED:
                size, start = varint(data, position)
                position = start + size
                if position > len(data):
                    return _wrong(WHOLE_REQUEST, "is not a valid message of this method")
                if number == _REQUESTS:
                    if len(requests) == MAX_REQUESTS:
                        return _wrong("requests", f"has more than {MAX_REQUESTS} requests")
                    requests.append(data[start:position])
                    continue
            elif wire_type == VARINT:
                _, position = varint(data, position)
            else:
                position += SIZES[wire_type]
            others += 1
            if others > _MAX_OTHER_FIELDS:
                return _wrong(WHOLE_REQUEST, f"has more than {_MAX_OTHER_FIELDS} unknown fields")
    except (IndexError, KeyError):  # cut short, or a wire type that no field has
        return _wrong(WHOLE_REQUEST, "is not a valid message of this method")
    return requests or _wrong("requests", "is empty: there is nothing to answer")


class Turns:
    """Divides the reading of all batches, so that whatever else is ready on the event loop runs in between."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._number = 0
        self._ends_at = 0.0

    async def wait(self) -> None:
        """Return while the turn lasts, or else when the event loop has run what was ready and the next turn begins."""
        while self._clock() >= self._ends_at:
            number = self._number
            await asyncio.sleep(0)
            if number == self._number:
                self._number += 1
                self._ends_at = self._clock() + SECONDS_PER_TURN


class Batches:
    """Answers the requests of batches."""

    def __init__(self, metrics: Metrics, turns: Turns | None = None) -> None:
        self._counted = metrics.batch_requests
        self._succeeded = metrics.batch_requests.labels("OK")
        self._turns = turns or Turns()

    async def answer(self, requests: Sequence[bytes], answer: Answer) -> recommendation_pb2.BatchRecommendItemsResponse:
        """Return the result of each request. `answer` gets its bytes; what it raises becomes the status."""
        response = recommendation_pb2.BatchRecommendItemsResponse()
        async with asyncio.TaskGroup() as group:
            for position, data in enumerate(requests):
                group.create_task(self._answer_one(response.results.add(), position, data, answer))
        return response

    async def _answer_one(
        self, result: recommendation_pb2.RecommendItemsResult, position: int, data: bytes, answer: Answer
    ) -> None:
        failure: ServiceError
        await self._turns.wait()
        try:
            result.response.CopyFrom(await answer(data))
            self._succeeded.inc()
            return
        except ServiceError as error:
            failure = error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            failure = UnavailableError("the work was cancelled")
        except Exception as error:
            failure = ServiceError(f"internal error {log_error(error, 'BatchRecommendItems')}")
        self._counted.labels(failure.code.name).inc()
        result.status.CopyFrom(_status(failure, f"requests[{position}]"))


def _status(failure: ServiceError, request: str) -> recommendation_pb2.RequestStatus:
    """The status of a request that failed; violations name fields as seen from the batch."""
    violations: Sequence[Violation] = ()
    if isinstance(failure, InvalidRequestError):
        failure = failure.within(request)
        violations = failure.violations
    code: int = failure.code.value[0]
    status = recommendation_pb2.RequestStatus(
        code=code,
        message=str(failure),
        violations=[
            recommendation_pb2.FieldViolation(field=field, description=description) for field, description in violations
        ],
    )
    if isinstance(failure, OverloadedError):
        status.retry_after_milliseconds = round(failure.retry_after_seconds * 1000)
    return status


def _wrong(field: str, description: str) -> InvalidRequestError:
    return InvalidRequestError([Violation(field, description)])
