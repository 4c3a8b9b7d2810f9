"""Asks a server for its health."""

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


def healthy(
    target: str,
    timeout_seconds: float = 1.0,
    *,
    service: str = "",
    credentials: grpc.ChannelCredentials | None = None,
) -> bool:
    """Whether the server at the target says SERVING."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    channel = (
        grpc.insecure_channel(target, options=options)
        if credentials is None
        else grpc.secure_channel(target, credentials, options=options)
    )
    with channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=service), timeout=timeout_seconds
            )
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
