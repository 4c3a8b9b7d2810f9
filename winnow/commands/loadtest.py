"""`winnow loadtest`: puts a load on a running gateway and says what it bears."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

# Of the saturated rate: where a capacity plan looks.
SWEEP_SHARES = (0.1, 0.3, 0.5, 0.7, 0.85, 0.95)


def loadtest(
    target: Annotated[str, typer.Option(envvar="WINNOW_TARGET", help="Where the gateway answers.")] = "localhost:50050",
    concurrency: Annotated[
        list[int] | None, typer.Option(help="Closed loop with this many callers; may be given several times.")
    ] = None,
    rate: Annotated[
        list[float] | None, typer.Option(help="Open loop: Poisson arrivals a second; may be given several times.")
    ] = None,
    callers: Annotated[int, typer.Option(help="Callers that saturate the gateway, where no load is given.")] = 64,
    seconds: Annotated[float, typer.Option(help="How long each load is measured, after a second of warming up.")] = 10,
    processes: Annotated[int, typer.Option(help="Client processes.")] = 1,
    connections: Annotated[int, typer.Option(help="Connections of each client process.")] = 1,
    count: Annotated[int, typer.Option(help="Items to ask for.")] = 20,
    timeout_seconds: Annotated[float, typer.Option(help="Deadline of each call.")] = 1.0,
    histories: Annotated[
        Path | None, typer.Option(help="File of histories to send: a JSON list of item ids a line.")
    ] = None,
    releases: Annotated[Path, typer.Option(help="Without a file: draw histories from this current release.")] = Path(
        "releases"
    ),
    history_length: Annotated[int, typer.Option(help="Watches in a drawn history.")] = 50,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write latency over rate here, as PNG.")] = None,
) -> None:
    """Measure rate and latency of RecommendItems.

    Without --concurrency and --rate: the saturated rate with --callers, then open loops at 10 to 95 % of it. Latency of
    an open loop counts from when a call was due, so that a stall is seen by every call it delays.
    """
    from winnow.loadtest.histories import draw_histories, read_histories, serialize
    from winnow.loadtest.load import Load
    from winnow.loadtest.processes import run_load
    from winnow.loadtest.summary import Point, plot_latency_over_rate, table

    console, errors = Console(), Console(stderr=True)

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
        errors.print(f"[red]winnow loadtest:[/red] {error}", highlight=False)
        raise SystemExit(1) from None
    console.print(table(points))
    if json_file:
        json_file.write_text(json.dumps([point.as_json() for point in points], indent=1) + "\n")
    if plot:
        plot_latency_over_rate({target: points}, plot)
