"""`winnow publish`: make a release current, and so roll back to an earlier one."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from winnow.commands.failures import one_line_errors


def publish(
    release_id: Annotated[str, typer.Argument(help="The release to answer from.")],
    releases: Annotated[Path, typer.Option(help="Directory of the releases.")] = Path("releases"),
) -> None:
    """Make a release current, for example the one before, to roll back. Running services move to it by themselves."""
    with one_line_errors(ValueError):
        make_current(releases, release_id)


def make_current(releases: Path, release_id: str) -> None:
    """Point CURRENT at a release and say how to undo that. Raises ReleaseError unless its files are there."""
    from winnow.release.publication import point_current_at
    from winnow.release.reader import ReleaseError, current_release_id, open_release

    if not release_id or Path(release_id).name != release_id:
        # CURRENT would name a path, and no service would read it.
        raise ReleaseError(f"{release_id!r} is not the id of a release: give the name of its directory alone")
    open_release(releases / release_id, frozenset())
    try:
        before = current_release_id(releases)
    except ReleaseError:
        before = ""
    point_current_at(releases, release_id)
    console = Console(emoji=False, highlight=False, soft_wrap=True)
    console.print(f"Release {release_id} is current in {releases}", markup=False)
    if before and before != release_id:
        console.print(f"To roll back: winnow publish {before} --releases {releases}", markup=False)
