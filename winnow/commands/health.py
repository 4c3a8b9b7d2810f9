"""`winnow health`: whether a service is ready, as an exit status, for container health checks and scripts."""

from pathlib import Path
from typing import Annotated

import typer

from winnow.rpc.credentials import channel_credentials
from winnow.rpc.health import healthy


def health(
    target: Annotated[str, typer.Argument(help="Address of the service.")] = "localhost:50050",
    service: Annotated[str, typer.Option(help="Name in the health protocol. Empty for the whole server.")] = "",
    timeout_seconds: Annotated[float, typer.Option(help="Deadline of the check.")] = 1.0,
    ca_file: Annotated[
        Path | None,
        typer.Option(help="PEM certificates of the authority that signs the server's certificate. Turns TLS on."),
    ] = None,
    certificate_file: Annotated[
        Path | None, typer.Option(help="PEM certificate of this client, for mutual TLS.")
    ] = None,
    key_file: Annotated[Path | None, typer.Option(help="PEM private key of that certificate.")] = None,
) -> None:
    """Exit with status 0 if the service says that it is serving, else with 1."""
    try:
        credentials = channel_credentials(ca_file, certificate_file, key_file)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if not healthy(target, timeout_seconds, service=service, credentials=credentials):
        raise SystemExit(f"{target} is not serving")
    typer.echo(f"{target} is serving")
