"""`winnow similar`: items like the given ones."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from winnow.client import CandidateSource
from winnow.commands.gateway_calls import DEFAULT_TARGET, Target, Timeout, find_by_title, gateway_client
from winnow.commands.printable import printable


def similar(
    item_ids: Annotated[
        list[str] | None, typer.Argument(help="Item ids; of several, the last ones count most.")
    ] = None,
    title: Annotated[list[str] | None, typer.Option(help="Add an item by its title, as in `winnow recommend`.")] = None,
    count: Annotated[int, typer.Option(min=1, max=100, help="How many items to return.")] = 20,
    exclude: Annotated[
        list[str] | None, typer.Option(help="An item id to leave out. May be given several times.")
    ] = None,
    filter_: Annotated[
        str, typer.Option("--filter", help="Only items that match, as in 'genres:Comedy AND year >= 1990'.")
    ] = "",
    allow: Annotated[
        list[str] | None, typer.Option(help="Only this item id. May be given several times, for several ids.")
    ] = None,
    target: Target = DEFAULT_TARGET,
    timeout_seconds: Timeout = 5.0,
) -> None:
    """Print the items that are watched after the given ones."""
    with gateway_client("similar", target, timeout_seconds) as winnow:
        given = [*(item_ids or ()), *(find_by_title(winnow, text, "similar").item_id for text in title or ())]
        answer = winnow.similar(
            given, count=count, filter=filter_, allowed_item_ids=allow, excluded_item_ids=exclude or ()
        )
        titles = winnow.items([*given, *(item.item_id for item in answer.items)]).by_id
    console = Console(emoji=False)
    known = ", ".join(titles[item_id].title if item_id in titles else f"{item_id} (unknown)" for item_id in given)
    console.print(f"Similar to: {printable(known)}", markup=False, highlight=False)
    table = Table("", "title", "score", "item id")
    for position, item in enumerate(answer.items, start=1):
        shown = titles[item.item_id].title if item.item_id in titles else item.item_id
        table.add_row(str(position), Text(printable(shown)), f"{item.score:.4f}", Text(printable(item.item_id)))
    console.print(table)
    console.print(f"Release {answer.release_id}, {answer.timing.total_milliseconds:.1f} ms", highlight=False)
    if answer.candidate_source is CandidateSource.POPULAR:
        console.print("The release knows none of the items: these are the most popular ones.")
