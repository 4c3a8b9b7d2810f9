"""`winnow schema`: what filters can compare."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from winnow.commands.gateway_calls import DEFAULT_TARGET, Target, Timeout, gateway_client


def schema(
    target: Target = DEFAULT_TARGET,
    timeout_seconds: Timeout = 5.0,
) -> None:
    """Print the attributes of the release's items, which filters compare."""
    with gateway_client("schema", target, timeout_seconds) as winnow:
        found = winnow.schema()
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
