"""Which server takes the calls: gRPC's own, or the native one. Decided here and nowhere else."""

from collections.abc import Sequence
from typing import cast

import grpc

from winnow.distribution import install_command
from winnow.serving.settings import ServerSettings


def make_server(
    settings: ServerSettings, interceptor: grpc.aio.ServerInterceptor, options: Sequence[tuple[str, int]]
) -> grpc.aio.Server:
    """Return a server that is not started. Raises ValueError where the settings ask for what is not there."""
    if settings.transport == "grpc":
        return grpc.aio.server(interceptors=[interceptor], options=options)
    if settings.tls_certificate_file or settings.tls_key_file or settings.tls_client_ca_file:
        raise ValueError("the native transport has no TLS: unset the tls_ settings, or set transport to grpc")
    try:
        from winnow.serving.native_server import NativeServer
    except ImportError as error:
        raise ValueError(f"transport is native, but the extra is not installed: {install_command('native')}") from error
    return cast("grpc.aio.Server", NativeServer(interceptor, options))
