"""`winnow health`: whether a service is ready, as an exit status; for container health checks and scripts."""

from pathlib import Path
from typing import Annotated

import grpc
import typer
from grpc_health.v1 import health_pb2, health_pb2_grpc

from winnow.serving.tls import channel_credentials


def health(
    target: Annotated[str, typer.Argument(help="Where the service answers.")] = "localhost:50050",
    service: Annotated[str, typer.Option(help="Name in the health protocol; empty for the whole server.")] = "",
    timeout_seconds: Annotated[float, typer.Option(help="How long it may take to answer.")] = 1.0,
    ca_file: Annotated[Path | None, typer.Option(help="Authority of the server's certificate: turns TLS on.")] = None,
    certificate_file: Annotated[Path | None, typer.Option(help="Own certificate, for mutual TLS.")] = None,
    key_file: Annotated[Path | None, typer.Option(help="Its private key.")] = None,
) -> None:
    """Exit with 0 if the service says that it is serving, else with 1."""
    try:
        credentials = channel_credentials(ca_file, certificate_file, key_file)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if not healthy(target, timeout_seconds, service=service, credentials=credentials):
        raise SystemExit(f"{target} is not serving")


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
