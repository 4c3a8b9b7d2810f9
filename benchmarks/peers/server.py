"""A bare grpc.aio server on uvloop for all peers: no interceptors, no health service, only the handlers."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc
import uvloop

from winnow.v1 import recommendation_pb2

Handler = Callable[[Any, Any], Awaitable[Any]]


def run(port: int, make_handlers: Callable[[], Mapping[str, Handler]]) -> None:
    """Serve methods of RecommendationService, by name, until SIGTERM. The handlers are made inside the event loop."""
    uvloop.run(_serve(port, make_handlers))


async def _serve(port: int, make_handlers: Callable[[], Mapping[str, Handler]]) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    methods = {
        name: grpc.unary_unary_rpc_method_handler(
            handler,
            request_deserializer=getattr(recommendation_pb2, f"{name}Request").FromString,
            response_serializer=getattr(recommendation_pb2, f"{name}Response").SerializeToString,
        )
        for name, handler in make_handlers().items()
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("winnow.v1.RecommendationService", methods)])
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await stop.wait()
    await server.stop(None)
