"""The health of a service: readiness under the names of its gRPC services, liveness under a name of its own."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc

_log = structlog.get_logger(__name__)

LIVENESS = "liveness"
"""Under this name, health says whether the process should be restarted; under the others, whether to send calls."""
LIVENESS_INTERVAL_SECONDS = 1.0


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # it has no types
    """Implements grpc.health.v1.Health. A new one is alive and not ready.

    The servicer of grpcio-health-checking changes a status only after every watcher has taken the one before: a watcher
    that does not read would keep the service from becoming ready, and from stopping.
    """

    service_name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name

    def __init__(self, service_names: Sequence[str]) -> None:
        """Run on the event loop of the server."""
        self._ready_names = ("", *service_names)
        self._serving = {**dict.fromkeys(self._ready_names, False), LIVENESS: True}
        self._changed = asyncio.Event()

    def set_ready(self, ready: bool) -> None:
        """Say whether calls should be sent."""
        self._change(dict.fromkeys(self._ready_names, ready))

    async def watch_liveness(self, alive: Callable[[], bool]) -> None:
        """Ask `alive` for ever, and pass on what it says."""
        while True:
            await asyncio.sleep(LIVENESS_INTERVAL_SECONDS)
            if alive() != self._serving[LIVENESS]:
                self._change({LIVENESS: alive()})
                _log.warning("alive again" if self._serving[LIVENESS] else "stuck: a computation takes too long")

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> health_pb2.HealthCheckResponse:
        """Answer the status, or NOT_FOUND where there is no such service."""
        if request.service not in self._serving:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service")
        return self._response(request.service)

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> None:
        """Send the status, and again whenever it changes, until the caller leaves."""
        sent: health_pb2.HealthCheckResponse | None = None
        while True:
            changed = self._changed
            response = self._response(request.service)
            if response != sent:
                await context.write(response)
                sent = response
            await changed.wait()

    def _response(self, service: str) -> health_pb2.HealthCheckResponse:
        serving = self._serving.get(service)
        if serving is None:
            return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
        return health_pb2.HealthCheckResponse(
            status=health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        )

    def _change(self, serving: dict[str, bool]) -> None:
        self._serving.update(serving)
        self._changed.set()
        self._changed = asyncio.Event()
