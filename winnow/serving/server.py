"""The life of a service process: listen, load, serve, drain, stop."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Protocol, cast

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from winnow.serving.boundary import ErrorBoundary
from winnow.serving.logs import configure_logs
from winnow.serving.settings import ServerSettings

_log = structlog.get_logger(__name__)


class Service(Protocol):
    """What a service adds to the common server."""

    @property
    def name(self) -> str:
        """For logs."""

    @property
    def grpc_service_names(self) -> Sequence[str]:
        """Full names of the gRPC services it offers, for health and reflection."""

    def register(self, server: grpc.aio.Server) -> None:
        """Add the servicers. Until `load` returns they answer UNAVAILABLE."""

    async def load(self) -> None:
        """Load the release and warm up. Raises ValueError, with a text for the operator, where it cannot."""

    async def close(self) -> None:
        """Finish what is under way; no call arrives any more."""


class StartError(Exception):
    """The service cannot start; the text is for the operator."""


def run_service(settings: ServerSettings, make_service: Callable[[], Service], port: int) -> int:
    """Run a service until SIGTERM or SIGINT and return the exit status: 0 stopped in order, 1 could not start."""
    import uvloop

    async def main() -> int:
        service = make_service()
        configure_logs(service.name, settings.log_format, settings.log_level)
        try:
            await serve(settings, service, port)
        except StartError as error:
            _log.error("cannot start", reason=str(error))
            return 1
        return 0

    return uvloop.run(main())


async def serve(settings: ServerSettings, service: Service, port: int) -> None:
    """Serve until SIGTERM or SIGINT. Raises StartError where the port is taken or the release cannot be loaded."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    async with _listening(settings, service, port) as set_serving:
        loading = loop.create_task(_load(service))
        stopping = loop.create_task(stop.wait())
        await asyncio.wait([loading, stopping], return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            loading.result()
            await set_serving(True)
            _log.info("serving", host=settings.host)
            await stopping
        else:
            loading.cancel()
        _log.info("draining", drain_seconds=settings.drain_seconds)
        await set_serving(False)
        await asyncio.sleep(settings.drain_seconds)
    _log.info("stopped")


@contextlib.asynccontextmanager
async def _listening(
    settings: ServerSettings, service: Service, port: int
) -> AsyncIterator[Callable[[bool], Coroutine[Any, Any, None]]]:
    """Listen with health NOT_SERVING; on leaving, wait for calls under way and close the service."""
    server = grpc.aio.server(interceptors=[ErrorBoundary()], options=_server_options(settings))
    service.register(server)
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    names = ["", *service.grpc_service_names]

    async def set_serving(serving: bool) -> None:
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in names:
            await health_servicer.set(name, status)

    await set_serving(False)
    if settings.reflection:
        reflection.enable_server_reflection(
            [*service.grpc_service_names, health.SERVICE_NAME, reflection.SERVICE_NAME], server
        )
    address = f"{settings.host}:{port}"
    try:
        bound_port = server.add_insecure_port(address)
    except RuntimeError:
        raise StartError(f"cannot listen on {address}: is the port taken?") from None
    await server.start()
    _log.info("listening", address=f"{settings.host}:{bound_port}")
    try:
        yield set_serving
    finally:
        await server.stop(settings.stop_grace_seconds)
        await service.close()


async def _load(service: Service) -> None:
    try:
        await service.load()
    except ValueError as error:
        raise StartError(str(error)) from error


def _server_options(settings: ServerSettings) -> list[tuple[str, int]]:
    return [
        # Without this a second server takes the same port silently and half of the calls.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        # Clients resolve names anew when a connection ends: this is how they find new replicas.
        ("grpc.max_connection_age_ms", int(settings.max_connection_age_seconds * 1000)),
        ("grpc.max_connection_age_grace_ms", int(settings.max_timeout_seconds * 1000) + 1000),
        # Let clients ping often enough to notice a dead peer in seconds (they do every 10 s).
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]


def remaining_seconds(context: "grpc.aio.ServicerContext[Any, Any]", settings: ServerSettings) -> float:
    """Return the time left for this call: the caller's deadline, or the default, capped by the maximum."""
    remaining = cast("float | None", context.time_remaining())  # None, whatever its stub says, without a deadline
    if remaining is None:
        return settings.default_timeout_seconds
    return min(remaining, settings.max_timeout_seconds)
