"""`winnow items`: from a release to a release with other attributes, retired items and new items."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from winnow.commands.failures import one_line_errors


def items(
    releases: Annotated[
        Path, typer.Option(help="Directory of the releases: changes the current one, unless --release names another.")
    ] = Path("releases"),
    release: Annotated[Path | None, typer.Option(help="The release to change, as DIRECTORY/ID.")] = None,
    items: Annotated[
        Path | None,
        typer.Option(
            help="CSV or Parquet with the column item_id and attributes of the release: their new values. "
            "Items that the release does not know are added."
        ),
    ] = None,
    retire: Annotated[
        list[str] | None, typer.Option(help="Id of an item never to recommend again; repeatable.")
    ] = None,
    retire_from: Annotated[
        Path | None, typer.Option(help="CSV or Parquet with such ids in the column item_id.")
    ] = None,
    restore: Annotated[list[str] | None, typer.Option(help="Id of a retired item to recommend again.")] = None,
    restore_from: Annotated[
        Path | None, typer.Option(help="CSV or Parquet with such ids in the column item_id.")
    ] = None,
    item_column: Annotated[str, typer.Option(help="What these files call the column item_id.")] = "item_id",
    title_column: Annotated[str, typer.Option(help="What the items file calls the column title.")] = "title",
    publish: Annotated[bool, typer.Option("--publish", help="Make the new release the current one.")] = False,
) -> None:
    """Make a release with changed items from a release, without training, in seconds."""
    from winnow.logs.item_changes import no_changes, read_item_changes, read_item_ids
    from winnow.release.models.derivation import derive_release
    from winnow.release.reader import open_current_release, open_release

    if items is None and not (retire or retire_from or restore or restore_from):
        raise typer.BadParameter("nothing is to be changed: give --items, --retire or --restore")
    with one_line_errors(ValueError):
        base = open_current_release(releases) if release is None else open_release(release)
        vocabulary = base.vocabulary()
        names = {"item_id": item_column, "title": title_column}

        def ids(given: list[str] | None, path: Path | None) -> list[str]:
            return [*(given or ()), *(() if path is None else read_item_ids(path, vocabulary, names))]

        retiring = ids(retire, retire_from)
        changes = no_changes()
        if items is not None:
            takes_new_items = bool(base.manifest.candidate_network.options.parts)
            schema = base.attributes().schema
            changes = read_item_changes(
                items, vocabulary, schema, retiring=retiring, takes_new_items=takes_new_items, names=names
            )
        made = derive_release(
            base,
            changes,
            retire=retiring,
            restore=ids(restore, restore_from),
            make_current=publish,
            while_base_is_current=release is None,
        )
    console = Console(emoji=False, highlight=False, soft_wrap=True)
    console.print(
        f"{made.changed_item_count:,} items changed, {made.new_item_count:,} added, {made.retired_item_count:,} are "
        f"retired; {made.written_bytes / 2**20:,.1f} MiB written"
    )
    directory = base.path.parent
    console.print(f"Release {made.release_id} {'is current' if publish else 'was made'} in {directory}")
