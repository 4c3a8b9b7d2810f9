"""`winnow serve`: runs the three services on this machine."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape


def serve(
    releases: Annotated[Path, typer.Option(help="Directory of releases. The current one is served.")] = Path(
        "releases"
    ),
    host: Annotated[str, typer.Option(help="Address that all three services listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the gateway. 0 for any free port.")] = 50050,
    candidate_port: Annotated[int, typer.Option(help="Port of the candidate service.")] = 50051,
    ranking_port: Annotated[int, typer.Option(help="Port of the ranking service.")] = 50052,
    candidate_device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    ranking_device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    start_timeout_seconds: Annotated[
        float, typer.Option(min=0, help="How long the services may take to load the release.")
    ] = 60.0,
) -> None:
    """Start candidate service, ranking service and gateway, and stop them together.

    All other settings are environment variables of the services, which are passed on: see docs/operations.md.
    """
    from winnow.release.reader import ReleaseError
    from winnow.serving.local_stack import LocalStack, StackError, StackSettings, forward_signals_as_exit

    console = Console(emoji=False, stderr=True)
    settings = StackSettings(
        releases=releases,
        host=host,
        gateway_port=port,
        candidate_port=candidate_port,
        ranking_port=ranking_port,
        start_timeout_seconds=start_timeout_seconds,
        flags={
            "candidate_service": [f"--device={candidate_device}"],
            "ranking_service": [f"--device={ranking_device}"],
        },
    )
    forward_signals_as_exit()
    try:
        with LocalStack(settings) as stack:
            console.print(f"Winnow answers on [bold]{stack.gateway_target}[/bold]. Ctrl-C stops it.", highlight=False)
            stack.wait()
    except KeyboardInterrupt:
        raise SystemExit(0) from None
    except (ReleaseError, StackError) as error:
        console.print(f"[red]winnow serve:[/red] {escape(str(error))}", highlight=False)
        raise SystemExit(1) from None
