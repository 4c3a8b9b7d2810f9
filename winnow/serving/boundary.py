"""The edge of a service: whatever happens inside, the caller gets one allowed status and no text of an exception.

Here every call is counted and timed, gets its trace id, and may be refused unread.
"""

import asyncio
import secrets
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar, cast

import grpc
import structlog
from google.protobuf.message import DecodeError, Message

from winnow.rpc.errors import (
    WHOLE_REQUEST,
    InvalidRequestError,
    OverloadedError,
    PermissionDeniedError,
    ServiceError,
    UnavailableError,
)
from winnow.rpc.violations import Violation
from winnow.serving.decoding import find_invalid_utf8, has_more_framing
from winnow.serving.metrics import Metrics
from winnow.serving.settings import ServerSettings
from winnow.serving.tls import certificate_names
from winnow.serving.tracing import Metadata, Spans, serving

_log = structlog.get_logger(__name__)

Handle = TypeVar("Handle", bound=Callable[..., Awaitable[Message]])
Parsed = TypeVar("Parsed", bound=Message)
HandlerType = Any  # grpc.RpcMethodHandler; its type parameters exist in its stub only

# Parsing takes up to 4 ms for this many bytes, whatever they are. What larger messages consist of is looked at first.
LOOKED_INTO_FROM_BYTES = 256 * 1024
# As long as it takes to answer the calls in flight, under overload.
RETRY_AFTER_SECONDS = 0.5


class Gatekeeper(Protocol):
    """May refuse a call before its message is read, for example because it has no token."""

    def refusal(self, method: str, metadata: Metadata) -> ServiceError | None:
        """Return why the call of a method, `/package.Service/Method`, is refused, or None."""


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
    becomes INTERNAL with an opaque id; the log says under the same id where it was raised.
    """

    def __init__(
        self, settings: ServerSettings, metrics: Metrics, spans: Spans, gatekeepers: Sequence[Gatekeeper]
    ) -> None:
        self._max_calls_in_flight = settings.max_calls_in_flight
        self._max_framing_bytes = settings.max_framing_bytes
        self._client_names = settings.allowed_client_names
        self._metrics = metrics
        self._spans = spans
        self._gatekeepers = gatekeepers
        self._guarded: dict[str, HandlerType] = {}
        self._calls_in_flight = 0
        metrics.requests_in_flight.set_function(lambda: self._calls_in_flight)
        self._overloaded = OverloadedError("too many calls are in flight", RETRY_AFTER_SECONDS).status()

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
                or parse_or_explain(handler.request_deserializer, self._max_framing_bytes),
                response_serializer=handler.response_serializer,
            )
            self._guarded[method] = guarded
        if self._calls_in_flight >= self._max_calls_in_flight:
            return self._refuse(self._overloaded, method)
        for gatekeeper in self._gatekeepers:
            refusal = gatekeeper.refusal(method, handler_call_details.invocation_metadata)
            if refusal is not None:
                return self._refuse(refusal.status(), method)
        # The task ends with the call, and whether or not its handler is ever called.
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._calls_in_flight += 1
        task.add_done_callback(self._on_end)
        return guarded

    def _on_end(self, _task: "asyncio.Task[Any]") -> None:
        self._calls_in_flight -= 1

    def _guard(self, handle: Callable[..., Awaitable[Message]], method: str) -> Callable[..., Awaitable[Message]]:
        name = method.rpartition("/")[2]
        seconds = self._metrics.request_seconds.labels(name)
        succeeded = self._metrics.requests.labels(name, "OK")

        async def guarded(request: Any, context: "grpc.aio.ServicerContext[Any, Any]") -> Message:
            started = time.perf_counter()
            try:
                with serving(self._spans, name, cast("Metadata", context.invocation_metadata() or ())):
                    if self._client_names:
                        self._check_client(context)
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
                seconds.observe(time.perf_counter() - started)
            self._metrics.requests.labels(name, code.name).inc()
            return await context.abort(code, text, metadata)

        return guarded

    def _check_client(self, context: "grpc.aio.ServicerContext[Any, Any]") -> None:
        if self._client_names.isdisjoint(certificate_names(context)):
            raise PermissionDeniedError("the name in the caller's certificate is not one that may call")

    def _refuse(self, status: tuple[grpc.StatusCode, str, Any], method: str) -> HandlerType:
        code, text, metadata = status
        counted = self._metrics.requests.labels(method.rpartition("/")[2], code.name)

        async def refuse(_unread: Any, context: "grpc.aio.ServicerContext[Any, Any]") -> bytes:
            counted.inc()
            await context.abort(code, text, metadata)

        # Of a unary handler gRPC would read the message first.
        return grpc.stream_unary_rpc_method_handler(refuse)


def parse_or_explain(
    parse: Callable[[bytes], Parsed], max_framing_bytes: int
) -> Callable[[bytes], Parsed | InvalidRequestError]:
    """Parse a request, or return why that is impossible: raised here, the error would not become a status."""
    message_class: Any = parse.__self__  # type: ignore[attr-defined]  # a class method of the message
    descriptor = message_class.DESCRIPTOR

    def parse_or_explain(data: bytes) -> Parsed | InvalidRequestError:
        if len(data) >= LOOKED_INTO_FROM_BYTES and has_more_framing(descriptor, data, max_framing_bytes):
            return InvalidRequestError([Violation(WHOLE_REQUEST, "has more fields than any request needs")])
        try:
            return parse(data)
        except DecodeError:
            field = find_invalid_utf8(descriptor, data)
        if field is not None:
            return InvalidRequestError([Violation(field, "is not valid UTF-8")])
        return InvalidRequestError([Violation(WHOLE_REQUEST, "is not a valid message of this method")])

    return parse_or_explain


def log_error(error: Exception, method: str) -> str:
    """Log where an error was raised, and return the id under which it stands.

    What it says may quote the request, and is logged at debug only.
    """
    error_id = secrets.token_hex(8)
    stack: list[str] = []
    raised: BaseException | None = error
    while raised is not None:
        stack[:0] = [*traceback.format_tb(raised.__traceback__), f"{type(raised).__name__}\n"]
        raised = raised.__cause__ or raised.__context__
    _log.error("internal error", error_id=error_id, method=method, error=type(error).__name__, stack="".join(stack))
    _log.debug("internal error in full", error_id=error_id, exc_info=error)
    return error_id
