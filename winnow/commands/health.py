"""`winnow health`: whether a service is ready, as an exit status; for container health checks and scripts."""

from pathlib import Path
from typing import Annotated

import typer

from winnow.rpc.credentials import channel_credentials
from winnow.rpc.health import healthy


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
