"""The edge of a service: whatever happens inside, the caller gets one allowed status and no text of an exception."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import structlog
from google.protobuf.message import DecodeError, Message

from winnow.serving.decoding import find_invalid_utf8
from winnow.serving.errors import InvalidRequestError, ServiceError, UnavailableError, Violation

_log = structlog.get_logger(__name__)


class ErrorBoundary(grpc.aio.ServerInterceptor):
    """Turns every outcome of a unary handler into an answer or one status of the contract.

    A ServiceError becomes its own status. A message that cannot be decoded becomes INVALID_ARGUMENT. Anything else
    becomes INTERNAL with an opaque id; the log has the exception under the same id.
    """

    async def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """Wrap unary methods; others (reflection, health watches) are the libraries' own and pass as they are."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None or handler.request_deserializer is None:
            return handler
        return grpc.unary_unary_rpc_method_handler(
            _guard(handler.unary_unary, handler_call_details.method),
            request_deserializer=_keep_undecodable(handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )


class _Undecodable:
    """A request that protobuf refused."""

    def __init__(self, data: bytes, parse: Callable[[bytes], Any]) -> None:
        self._data = data
        self._message_class = getattr(parse, "__self__", None)

    def error(self) -> InvalidRequestError:
        if self._message_class is not None:
            field = find_invalid_utf8(self._message_class.DESCRIPTOR, self._data)
            if field is not None:
                return InvalidRequestError([Violation(field, "is not valid UTF-8")])
        return InvalidRequestError([Violation("request", "is not a valid message of this method")])


def _keep_undecodable(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def parse_or_keep(data: bytes) -> Any:
        try:
            return parse(data)
        except DecodeError:
            return _Undecodable(data, parse)

    return parse_or_keep


def _guard(handle: Callable[..., Awaitable[Message]], method: str) -> Callable[..., Awaitable[Message]]:
    async def guarded(request: Message | _Undecodable, context: "grpc.aio.ServicerContext[Any, Any]") -> Message:
        try:
            if isinstance(request, _Undecodable):
                raise request.error()
            return await handle(request, context)
        except ServiceError as error:
            code, text, metadata = error.status()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # by the client or by the end of its deadline: there is nobody left to answer
            # A handler that lets a stray CancelledError out sends no status at all, and its client hangs.
            code, text, metadata = UnavailableError("the work was cancelled").status()
        except grpc.aio.AbortError:
            raise
        except Exception:
            error_id = secrets.token_hex(8)
            _log.exception("internal error", error_id=error_id, method=method)
            code, text, metadata = grpc.StatusCode.INTERNAL, f"internal error {error_id}", ()
        await context.abort(code, text, metadata)
        raise AssertionError("abort returned")  # pragma: no cover - abort raises

    return guarded
