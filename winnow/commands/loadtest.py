"""`winnow loadtest`: measures the rate and latency of a running gateway under load."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from winnow.commands.gateway_calls import DEFAULT_TARGET, Target, Timeout

# Shares of the saturated rate, as capacity planning needs them.
SWEEP_SHARES = (0.1, 0.3, 0.5, 0.7, 0.85, 0.95)


def loadtest(
    target: Target = DEFAULT_TARGET,
    concurrency: Annotated[
        list[int] | None, typer.Option(help="Closed loop with this many callers. May be given several times.")
    ] = None,
    rate: Annotated[
        list[float] | None,
        typer.Option(help="Open loop with this many Poisson arrivals a second. May be given several times."),
    ] = None,
    callers: Annotated[
        int, typer.Option(help="Callers that saturate the gateway, if neither --concurrency nor --rate is given.")
    ] = 64,
    seconds: Annotated[float, typer.Option(help="How long each load is measured, after a second of warm-up.")] = 10,
    processes: Annotated[int, typer.Option(help="Client processes.")] = 1,
    connections: Annotated[int, typer.Option(help="Connections of each client process, shared by its callers.")] = 1,
    connection_per_caller: Annotated[
        bool, typer.Option("--connection-per-caller", help="Closed loops: a connection for each caller instead.")
    ] = False,
    count: Annotated[int, typer.Option(min=1, max=100, help="How many items to request.")] = 20,
    timeout_seconds: Timeout = 1.0,
    histories: Annotated[
        Path | None, typer.Option(help="File of histories to send, each line a JSON list of item ids.")
    ] = None,
    releases: Annotated[
        Path, typer.Option(help="Without --histories: draw them from the current release in this directory.")
    ] = Path("releases"),
    history_length: Annotated[int, typer.Option(help="Watches of each drawn history.")] = 50,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Plot latency over rate to this file, as PNG.")] = None,
) -> None:
    """Measure rate and latency of RecommendItems.

    Without --concurrency and --rate: a closed loop of --callers finds the saturated rate, then open loops run at 10 to
    95 % of it. Latency of an open loop counts from when a call was due, so that a stall shows in every call it delays.
    """
    from winnow.loadtest.histories import draw_histories, read_histories, serialize
    from winnow.loadtest.load import Load
    from winnow.loadtest.processes import run_load
    from winnow.loadtest.summary import Point, plot_latency_over_rate, table

    console, errors = Console(emoji=False), Console(emoji=False, stderr=True)
    if connection_per_caller and rate and not concurrency:
        raise typer.BadParameter("--connection-per-caller needs --concurrency: an open loop has no callers")

    def measure(*, callers: int | None = None, rate_per_second: float | None = None) -> Point:
        offered = f"{callers} callers" if callers else f"{rate_per_second:.0f}/s"
        with errors.status(f"{offered}: {seconds:g} seconds"):
            measured = run_load(
                Load(
                    target=target,
                    requests=requests,
                    answer_length=count,
                    seconds=seconds,
                    timeout_seconds=timeout_seconds,
                    processes=min(processes, callers) if callers else processes,
                    connections=connections,
                    connection_per_caller=connection_per_caller and callers is not None,
                    concurrency=callers,
                    rate_per_second=rate_per_second,
                )
            )
        return Point(offered=offered, rate_per_second=rate_per_second, measured=measured)

    try:
        drawn = read_histories(histories) if histories else draw_histories(releases, history_length)
        requests = serialize(drawn, count)
        points = [measure(callers=number) for number in concurrency or ()]
        points += [measure(rate_per_second=number) for number in rate or ()]
        if not points:
            points = [measure(callers=callers)]
            saturated = points[0].measured.rate_per_second
            points += [measure(rate_per_second=share * saturated) for share in SWEEP_SHARES if saturated]
    except (OSError, ValueError, RuntimeError) as error:
        errors.print(f"[red]winnow loadtest:[/red] {escape(str(error))}", highlight=False)
        raise SystemExit(1) from None
    console.print(table(points))
    if json_file:
        json_file.write_text(json.dumps([point.as_json() for point in points], indent=1) + "\n")
    if plot:
        plot_latency_over_rate({target: points}, plot)
