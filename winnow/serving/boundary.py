"""The edge of a service: whatever happens inside, the caller gets one allowed status and no text of an exception.

Here every call is counted and timed, gets its trace id, and may be refused unread.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar, cast

import grpc
import structlog
from google.protobuf.message import DecodeError, Message

from winnow.rpc.errors import InvalidRequestError, ServiceError, UnavailableError
from winnow.rpc.violations import Violation
from winnow.serving.decoding import find_invalid_utf8
from winnow.serving.metrics import Metrics
from winnow.serving.tracing import Metadata, Spans, serving

_log = structlog.get_logger(__name__)

Handle = TypeVar("Handle", bound=Callable[..., Awaitable[Message]])
Parsed = TypeVar("Parsed", bound=Message)
HandlerType = Any  # grpc.RpcMethodHandler; its type parameters exist in its stub only


class Gatekeeper(Protocol):
    """May refuse a call before its message is read, for example because it has no token."""

    def refusal(self, metadata: Metadata) -> ServiceError | None:
        """Return why the call is refused, or None."""


def takes(convert: Callable[[bytes], Any]) -> Callable[[Handle], Handle]:
    """Give a handler what `convert` makes of the bytes of a request, in place of a message.

    `convert` returns an InvalidRequestError where it can make nothing of them.
    """

    def mark(handle: Handle) -> Handle:
        handle.takes = convert  # type: ignore[attr-defined]
        return handle

    return mark


class Boundary(grpc.aio.ServerInterceptor):
    """Turns every outcome of a unary handler into an answer or one status of the contract.

    A ServiceError becomes its own status. A message that cannot be decoded becomes INVALID_ARGUMENT. Anything else
    becomes INTERNAL with an opaque id; the log has the exception under the same id.
    """

    def __init__(self, metrics: Metrics, spans: Spans, gatekeepers: Sequence[Gatekeeper]) -> None:
        self._metrics = metrics
        self._spans = spans
        self._gatekeepers = gatekeepers
        self._guarded: dict[str, HandlerType] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[HandlerType]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> HandlerType:
        """Guard Winnow's own methods. Health and reflection belong to libraries and are never refused."""
        method = handler_call_details.method
        guarded = self._guarded.get(method)
        if guarded is None:
            handler = await continuation(handler_call_details)
            if handler is None or handler.unary_unary is None or not method.startswith("/winnow."):
                return handler
            guarded = grpc.unary_unary_rpc_method_handler(
                self._guard(handler.unary_unary, method),
                request_deserializer=getattr(handler.unary_unary, "takes", None)
                or parse_or_explain(handler.request_deserializer),
                response_serializer=handler.response_serializer,
            )
            self._guarded[method] = guarded
        for gatekeeper in self._gatekeepers:
            refusal = gatekeeper.refusal(handler_call_details.invocation_metadata)
            if refusal is not None:
                return self._refuse(refusal, method)
        return guarded

    def _guard(self, handle: Callable[..., Awaitable[Message]], method: str) -> Callable[..., Awaitable[Message]]:
        name = method.rpartition("/")[2]
        seconds = self._metrics.request_seconds.labels(name)
        succeeded = self._metrics.requests.labels(name, "OK")
        in_flight = self._metrics.requests_in_flight

        async def guarded(request: Any, context: "grpc.aio.ServicerContext[Any, Any]") -> Message:
            started = time.perf_counter()
            in_flight.inc()
            try:
                with serving(self._spans, name, cast("Metadata", context.invocation_metadata() or ())):
                    if isinstance(request, InvalidRequestError):
                        raise request
                    answer = await handle(request, context)
                succeeded.inc()
                return answer
            except ServiceError as error:
                code, text, metadata = error.status()
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    # By the client or because its deadline has passed: nobody waits for an answer.
                    self._metrics.requests.labels(name, "CANCELLED").inc()
                    raise
                # If a stray CancelledError left the handler, gRPC would send no status, and the client would hang.
                code, text, metadata = UnavailableError("the work was cancelled").status()
            except Exception as error:
                code, text, metadata = grpc.StatusCode.INTERNAL, f"internal error {log_error(error, name)}", ()
            finally:
                in_flight.dec()
                seconds.observe(time.perf_counter() - started)
            self._metrics.requests.labels(name, code.name).inc()
            return await context.abort(code, text, metadata)

        return guarded

    def _refuse(self, refusal: ServiceError, method: str) -> HandlerType:
        code, text, metadata = refusal.status()
        counted = self._metrics.requests.labels(method.rpartition("/")[2], code.name)

        async def refuse(_unread: bytes, context: "grpc.aio.ServicerContext[Any, Any]") -> bytes:
            counted.inc()
            await context.abort(code, text, metadata)

        return grpc.unary_unary_rpc_method_handler(refuse)


def parse_or_explain(parse: Callable[[bytes], Parsed]) -> Callable[[bytes], Parsed | InvalidRequestError]:
    """Parse a request, or return why that is impossible: raised here, the error would not become a status."""
    message_class: Any = parse.__self__  # type: ignore[attr-defined]  # a class method of the message

    def parse_or_explain(data: bytes) -> Parsed | InvalidRequestError:
        try:
            return parse(data)
        except DecodeError:
            field = find_invalid_utf8(message_class.DESCRIPTOR, data)
            if field is not None:
                return InvalidRequestError([Violation(field, "is not valid UTF-8")])
            return InvalidRequestError([Violation("request", "is not a valid message of this method")])

    return parse_or_explain


def log_error(error: Exception, method: str) -> str:
    """Log an error that no caller may see, and return the id that the caller sees instead."""
    error_id = secrets.token_hex(8)
    _log.error("internal error", error_id=error_id, method=method, exc_info=error)
    return error_id
