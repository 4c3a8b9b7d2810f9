"""`winnow schema`: what filters can compare."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from winnow.client import WinnowClient, WinnowError
from winnow.commands.recommend import print_failure


def schema(
    target: Annotated[str, typer.Option(envvar="WINNOW_TARGET", help="Address of the gateway.")] = "localhost:50050",
    timeout_seconds: Annotated[float, typer.Option(help="Deadline of the call.")] = 5.0,
) -> None:
    """Print the attributes of the release's items, which filters compare."""
    try:
        with WinnowClient(target, timeout_seconds=timeout_seconds) as winnow:
            found = winnow.schema()
    except WinnowError as error:
        print_failure("schema", error)
        raise SystemExit(1) from None
    console = Console(emoji=False)
    if not found.attributes:
        console.print(f"Release {found.release_id} has no attributes.", highlight=False)
        return
    table = Table("attribute", "type", "items with a value", "different texts")
    for attribute in found.attributes:
        distinct = "" if attribute.distinct_count is None else f"{attribute.distinct_count:,}"
        table.add_row(Text(attribute.name), attribute.type.lower(), f"{attribute.item_count:,}", distinct)
    console.print(table)
    console.print(f"Release {found.release_id}, {found.item_count:,} items", highlight=False)
