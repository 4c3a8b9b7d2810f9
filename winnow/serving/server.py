"""The life of a service process: listen, load, serve, drain, stop."""

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar, cast

import grpc
import structlog
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from winnow.distribution import install_command
from winnow.serving.boundary import Boundary, Gatekeeper
from winnow.serving.health import Health
from winnow.serving.logs import configure_logs
from winnow.serving.metrics import Metrics
from winnow.serving.releases import ReleaseKeeper
from winnow.serving.settings import ServerSettings
from winnow.serving.status import StatusService
from winnow.serving.tls import server_credentials
from winnow.serving.tracing import Spans
from winnow.serving.transport import make_server
from winnow.v1 import status_pb2_grpc

Settings = TypeVar("Settings", bound=ServerSettings)

_log = structlog.get_logger(__name__)

# A bit for each algorithm of gRPC; the lowest one stands for none.
ALL_COMPRESSIONS = 0b111
# A call that waits to be taken costs gRPC 16 kB, and up to 64 kB of its message.
MAX_PENDING_CALLS = 10_000
# Threads that end by themselves have done so by then.
THREAD_END_SECONDS = 1.0


class Service(Protocol):
    """What a service adds to the common server."""

    @property
    def name(self) -> str:
        """The service's name in status and traces."""

    @property
    def grpc_service_names(self) -> Sequence[str]:
        """Full names of the gRPC services it offers, for health and reflection."""

    def register(self, server: grpc.aio.Server) -> None:
        """Add the servicers. Until a release is loaded they answer UNAVAILABLE."""

    @property
    def keeper(self) -> ReleaseKeeper[Any]:
        """The releases that it answers from."""

    async def start(self) -> None:
        """Load the current release, and whatever else comes before the first call. Raises ValueError."""

    async def watch(self) -> None:
        """Follow new releases, and whatever else may change, for ever."""

    def gatekeepers(self) -> Sequence[Gatekeeper]:
        """Those who may refuse a call before its message is read. Raises ValueError where a setting is invalid."""

    def alive(self) -> bool:
        """Whether work gets done; False asks for a restart."""

    async def close(self) -> None:
        """Finish the work in flight. No call arrives any more."""


def run_service(make_service: Callable[[Settings, Metrics], Service], settings: Settings) -> int:
    """Run a service until SIGTERM or SIGINT and return the exit status: 0 stopped in order, 1 could not start.

    Ends the process itself where a thread is still at work: a release that is being loaded, a computation that is
    stuck. Neither can be interrupted, and Python would wait for it.
    """
    import uvloop

    async def main() -> int:
        metrics = Metrics()
        configure_logs(str(settings.model_config.get("cli_prog_name")), settings.log_format, settings.log_level)
        try:
            service = make_service(settings, metrics)
            with metrics.serve(settings.host, settings.metrics_port):
                await serve(settings, service, metrics)
        except ValueError as error:
            _log.error("cannot start", reason=str(error))
            return 1
        except OSError as error:
            _log.error("cannot start", reason=f"metrics port {settings.metrics_port}: {error.strerror}")
            return 1
        return 0

    status = uvloop.run(main())
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join(THREAD_END_SECONDS)
            if thread.is_alive():
                os._exit(status)
    return status


async def serve(settings: ServerSettings, service: Service, metrics: Metrics) -> None:
    """Serve until SIGTERM or SIGINT. Raises ValueError, with a text for operators, where the service cannot start."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, service.keeper.look_now)

    async with _listening(settings, service, metrics) as health:
        loading = loop.create_task(service.start())
        stopping = loop.create_task(stop.wait())
        await asyncio.wait([loading, stopping], return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            loading.result()
            health.set_ready(True)
            _log.info("serving", host=settings.host)
            async with _running(service.watch(), health.watch_liveness(service.alive), metrics.watch_event_loop()):
                await stopping
        else:
            loading.cancel()
        _log.info("draining", drain_seconds=settings.drain_seconds)
        health.set_ready(False)
        await asyncio.sleep(settings.drain_seconds)
    _log.info("stopped")


@contextlib.asynccontextmanager
async def _listening(settings: ServerSettings, service: Service, metrics: Metrics) -> AsyncIterator[Health]:
    """Listen with health NOT_SERVING; on leaving, wait for calls in flight and close the service."""
    boundary = Boundary(settings, metrics, _spans(settings, service), service.gatekeepers())
    server = make_server(settings, boundary, _server_options(settings))
    service.register(server)
    status = StatusService(service.name, service.keeper.status, service.keeper.experiment_status)
    status_pb2_grpc.add_StatusServiceServicer_to_server(status, server)
    health = Health(service.grpc_service_names)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    if settings.reflection:
        names = [*service.grpc_service_names, StatusService.grpc_service_name]
        reflection.enable_server_reflection([*names, Health.service_name, reflection.SERVICE_NAME], server)
    address = f"{settings.host}:{settings.port}"
    credentials = server_credentials(settings)
    try:
        bound_port = (
            server.add_insecure_port(address) if credentials is None else server.add_secure_port(address, credentials)
        )
    except RuntimeError:
        raise ValueError(f"cannot listen on {address}: is the port taken?") from None
    await server.start()
    _log.info(
        "listening",
        address=f"{settings.host}:{bound_port}",
        transport=settings.transport,
        tls=credentials is not None,
    )
    try:
        yield health
    finally:
        await server.stop(settings.stop_grace_seconds)
        await service.close()


@contextlib.asynccontextmanager
async def _running(*coroutines: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run background work until the block ends. What ends sooner has failed, which is logged."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    for task in tasks:
        task.add_done_callback(_log_failure)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _log_failure(task: "asyncio.Future[None]") -> None:
    if not task.cancelled():
        _log.error("background work failed", exc_info=task.exception())


def _spans(settings: ServerSettings, service: Service) -> Spans:
    if not settings.tracing:
        return Spans()
    try:
        from winnow.serving.opentelemetry import OpenTelemetrySpans
    except ImportError as error:
        raise ValueError(f"tracing is on, but the extra is not installed: {install_command('tracing')}") from error
    return OpenTelemetrySpans(service.name)


def _server_options(settings: ServerSettings) -> list[tuple[str, int]]:
    return [
        # By default gRPC shares the port: a second server would silently take half of the calls.
        ("grpc.so_reuseport", int(settings.shares_port)),
        # gRPC stops inflating a compressed message at this length too.
        ("grpc.max_receive_message_length", settings.max_request_bytes),
        ("grpc.compression_enabled_algorithms_bitset", ALL_COMPRESSIONS if settings.takes_compressed_requests else 1),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.max_concurrent_streams", settings.max_calls_per_connection),
        # Counts calls that have ended but are not freed yet, and so refuses calls of clients that keep to the limit.
        ("grpc.http.overload_protection", 0),
        # Calls that Python has not taken yet wait inside gRPC. By default it cancels some from 1,000 on; the Boundary
        # rejects calls with a status and a reason, and has to come first.
        ("grpc.server.max_pending_requests", MAX_PENDING_CALLS),
        ("grpc.server.max_pending_requests_hard_limit", MAX_PENDING_CALLS),
        # Clients resolve names again when a connection ends: this is how they find new replicas.
        ("grpc.max_connection_age_ms", int(settings.max_connection_age_seconds * 1000)),
        ("grpc.max_connection_age_grace_ms", int(settings.max_timeout_seconds * 1000) + 1000),
        # Let clients ping often enough to notice a dead peer in seconds.
        ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.keepalive_permit_without_calls", 1),
    ]


def remaining_seconds(context: "grpc.aio.ServicerContext[Any, Any]", settings: ServerSettings) -> float:
    """Return the time left for this call: until the caller's deadline, or the default; the maximum at most."""
    remaining = cast("float | None", context.time_remaining())  # None without a deadline, unlike the stub says
    if remaining is None:
        return settings.default_timeout_seconds
    return min(remaining, settings.max_timeout_seconds)
