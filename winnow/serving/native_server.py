"""A gRPC server whose HTTP/2 is compiled code (pygrpc-native): a unary call takes a third of the CPU time.

Everything else goes through gRPC's own server, which listens behind it on a Unix socket: health watches, reflection,
methods that do not exist.
"""

import asyncio
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import grpc
import structlog
from pygrpc_native import EVENT_CANCEL, NativeGrpcFront

_log = structlog.get_logger(__name__)

# Calls that are handed to the event loop at once.
MAX_EVENTS = 64
# Closing drops what is not yet written to the connections; there is no way to ask whether anything is left.
FLUSH_SECONDS = 0.2
# As much metadata as gRPC's own server takes. The front answers more than its limit with a status of HTTP, which gRPC's
# clients do not know, and much more with the end of the connection.
MAX_METADATA_BYTES = 16 * 1024
FRONT_METADATA_BYTES = 128 * 1024
# The one key of gRPC's own that may be sent along with a status.
STATUS_DETAILS = "grpc-status-details-bin"

HandlerType = Any  # grpc.RpcMethodHandler; its type parameters exist in its stub only
Metadata = tuple[tuple[str, str | bytes], ...]


class NativeServer:
    """What Winnow uses of grpc.aio.Server; handlers and interceptors are written for that one.

    A handler's context has `invocation_metadata`, `time_remaining` and `abort` only.
    """

    def __init__(self, interceptor: grpc.aio.ServerInterceptor, options: Sequence[tuple[str, int]]) -> None:
        """Of gRPC's server options, take message sizes, streams of a connection and sharing of the port."""
        self._interceptor = interceptor
        self._options = dict(options)
        self._max_request_bytes = self._options["grpc.max_receive_message_length"]
        self._max_answer_bytes = self._options["grpc.max_send_message_length"]
        self._methods: list[_Method] = []
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._stopping = False
        self._behind = grpc.aio.server(interceptors=[interceptor])
        self._directory: tempfile.TemporaryDirectory[str]
        self._front: NativeGrpcFront
        self._receiver: threading.Thread

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """See grpc.aio.Server."""
        self._behind.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, HandlerType]) -> None:
        """See grpc.aio.Server. Call it before a port is added."""
        self._methods += [
            _Method(f"/{service}/{name}", handler) for name, handler in handlers.items() if handler.unary_unary
        ]
        self._behind.add_registered_method_handlers(service, dict(handlers))

    def add_insecure_port(self, address: str) -> int:
        """Bind the one port and return its number. Raises RuntimeError where it is taken."""
        try:
            self._front = NativeGrpcFront(
                address,
                [(method.path, False) for method in self._methods],
                call_details=True,
                max_metadata_size=FRONT_METADATA_BYTES,
                max_concurrent_streams=self._options.get("grpc.max_concurrent_streams", 1024),
                reuse_port=bool(self._options["grpc.so_reuseport"]),
            )
        except OSError as error:
            raise RuntimeError(f"{address}: {error}") from error
        return self._front.bound_port

    async def start(self) -> None:
        """Accept calls; their handlers run on this event loop."""
        self._directory = tempfile.TemporaryDirectory(prefix="winnow-")
        path = Path(self._directory.name) / "socket"
        self._behind.add_insecure_port(f"unix:{path}")
        await self._behind.start()
        self._front.set_fallback(str(path))
        self._front.start()
        self._receiver = threading.Thread(target=self._receive, args=(asyncio.get_running_loop(),), daemon=True)
        self._receiver.start()

    async def stop(self, grace: float) -> None:
        """Refuse further calls, wait up to `grace` seconds for those in flight, end the rest as UNAVAILABLE."""
        self._stopping = True
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=grace)
        overdue = list(self._tasks.values())
        for task in overdue:
            task.cancel()
        await asyncio.gather(*overdue, return_exceptions=True)
        # Nothing but watches and reflection.
        await self._behind.stop(None)
        await asyncio.sleep(FLUSH_SECONDS)
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._front.close()
        self._receiver.join()
        self._directory.cleanup()

    def _receive(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hand calls to the event loop until the front is closed. In a thread: waiting for calls blocks."""
        while True:
            events = self._front.recv_batch_details(MAX_EVENTS)
            if events is None:
                return
            loop.call_soon_threadsafe(self._begin, events, time.monotonic())
            # Not kept while waiting for the next: messages may be large.
            del events

    def _begin(self, events: Sequence[Sequence[Any]], received: float) -> None:
        for kind, call_id, method, message, _client, details in events:
            if kind == EVENT_CANCEL:
                # The caller has left, or the deadline has passed. A task that has not begun never will.
                task = self._tasks.pop(call_id, None)
                if task is not None:
                    task.cancel()
            elif self._stopping:
                self._fail(call_id, grpc.StatusCode.UNAVAILABLE, "stopping")
            else:
                metadata, _peer, seconds = details
                deadline = None if seconds is None else received + seconds
                answering = self._answer(call_id, self._methods[method], message, _Context(metadata, deadline))
                self._tasks[call_id] = asyncio.get_running_loop().create_task(answering)

    async def _answer(self, call_id: int, method: "_Method", message: bytes, context: "_Context") -> None:
        """End the call with exactly one status."""
        try:
            _check_size("metadata", sum(len(key) + len(value) for key, value in context.metadata), MAX_METADATA_BYTES)
            details = _CallDetails(method.path, context.metadata)
            handler: HandlerType = await self._interceptor.intercept_service(method.registered, details)
            _check_size("request", len(message), self._max_request_bytes)
            # A handler that refuses a call may be of another kind, one that does not read the message.
            handle = handler.unary_unary or handler.stream_unary
            parse, serialize = handler.request_deserializer or bytes, handler.response_serializer or bytes
            answer = serialize(await handle(parse(message), context))
            _check_size("answer", len(answer), self._max_answer_bytes)
            self._front.respond(call_id, answer)
        except _TooLargeError as error:
            self._fail(call_id, grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        except grpc.aio.AbortError:
            self._fail(call_id, *context.status)
        except asyncio.CancelledError:
            # Without effect where the caller has left.
            self._fail(call_id, grpc.StatusCode.UNAVAILABLE, "stopping")
            raise
        except Exception as error:
            # What it says may quote the request.
            _log.error("internal error outside of a handler", method=method.path, error=type(error).__name__)
            _log.debug("internal error in full", exc_info=error)
            self._fail(call_id, grpc.StatusCode.INTERNAL, "internal error")
        finally:
            self._tasks.pop(call_id, None)

    def _fail(self, call_id: int, code: grpc.StatusCode, text: str, metadata: Metadata = ()) -> None:
        # The front refuses gRPC's own keys. What is lost is that clients are told not to retry.
        sent = [(key, value) for key, value in metadata if not key.startswith("grpc-") or key == STATUS_DETAILS]
        self._front.fail(call_id, code.value[0], text, sent)


class _TooLargeError(Exception):
    """More bytes than may be received or sent."""


def _check_size(what: str, size: int, most: int) -> None:
    if size > most:
        raise _TooLargeError(f"the {what} is too large: {size} bytes, of at most {most}")


class _Method:
    """A unary method as the interceptor is given it."""

    def __init__(self, path: str, handler: HandlerType) -> None:
        self.path = path
        self._handler = handler

    async def registered(self, _details: grpc.HandlerCallDetails) -> HandlerType:
        return self._handler


@dataclass(slots=True)
class _CallDetails:
    """See grpc.HandlerCallDetails."""

    method: str
    invocation_metadata: Metadata


class _Context:
    """The part of grpc.aio.ServicerContext that Winnow's handlers use."""

    __slots__ = ("_deadline", "metadata", "status")

    def __init__(self, metadata: Metadata, deadline: float | None) -> None:
        self.metadata = metadata
        self._deadline = deadline
        self.status: tuple[grpc.StatusCode, str, Metadata] = (grpc.StatusCode.UNKNOWN, "", ())

    def invocation_metadata(self) -> Metadata:
        return self.metadata

    def time_remaining(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> NoReturn:
        self.status = (code, details, trailing_metadata)
        raise grpc.aio.AbortError
