"""`winnow plan`: how many replicas a load needs, and what saturates first."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from winnow.commands.failures import one_line_errors


def plan(
    items: Annotated[float, typer.Option(help="Items in the catalogue, such as 1e6.")],
    requests_per_second: Annotated[float, typer.Option(help="RecommendItems calls a second, at the peak.")],
    p99_milliseconds: Annotated[float, typer.Option(help="Latency that 99 % of the calls may take at most.")] = 100,
    replica_gibibytes: Annotated[float, typer.Option(help="Most memory that a replica may have.")] = 64,
    zones: Annotated[int, typer.Option(help="Zones, one of which may fail. 1: no reserve.")] = 3,
    network_milliseconds: Annotated[float, typer.Option(help="Time of a message between two machines.")] = 0.25,
    costs: Annotated[
        Path | None,
        typer.Option(help="Cost model to compute with, as JSON; otherwise the one that is shipped (docs/capacity.md)."),
    ] = None,
) -> None:
    """Print replicas, memory, network traffic, and what saturates first, from a measured cost model."""
    from winnow.capacity.cost_model import read_cost_model
    from winnow.capacity.plan import Wanted, make_plan

    with one_line_errors(ValueError):
        model = read_cost_model(costs)
        wanted = Wanted(
            item_count=items,
            requests_per_second=requests_per_second,
            p99_seconds=p99_milliseconds / 1000,
            replica_gibibytes=replica_gibibytes,
            zones=zones,
            hop_seconds=network_milliseconds / 1000,
        )
    console = Console(emoji=False, highlight=False)
    with Console(emoji=False, stderr=True).status("simulating"):
        made = make_plan(model, wanted)
    table = Table()
    table.add_column("service")
    for column in ("replicas", "a zone less", "busy", "GiB each", "MiB/s in", "MiB/s out"):
        table.add_column(column, justify="right")
    for service in made.services:
        table.add_row(
            service.name,
            f"{service.replicas:,}",
            f"{service.needed:,}",
            f"{service.utilisation:.0%}",
            f"{service.memory_gibibytes:,.1f}",
            f"{service.received_mebibytes_per_second:,.0f}",
            f"{service.sent_mebibytes_per_second:,.0f}",
        )
    console.print(table)
    if made.shard_count > 1:
        console.print(
            f"The index has {made.shard_count:,} shards, each searched for every request: "
            f"{1000 * made.search_seconds:,.1f} ms of CPU time in each.",
            soft_wrap=True,
        )
    console.print(
        f"p50 {1000 * made.p50_seconds:,.0f} ms, p99 {1000 * made.p99_seconds:,.0f} ms with a zone less, simulated; "
        f"{made.mean_batch:,.1f} requests in a batch."
    )
    for limit in made.limits():
        console.print(f"- {limit}", soft_wrap=True)
    console.print(f"A replica is one process on one core. Costs: {model.measured}", soft_wrap=True)
