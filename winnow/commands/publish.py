"""`winnow publish`: make a release current, and so roll back to an earlier one."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from winnow.commands.failures import one_line_errors

ENVIRONMENT = "WINNOW_CANDIDATE_ENGINE"
"""The candidate service reads the same variables."""


class Engine(StrEnum):
    """What searches the catalogue."""

    NONE = "none"
    MILVUS = "milvus"


def publish(
    release_id: Annotated[str, typer.Argument(help="The release to answer from.")],
    releases: Annotated[Path, typer.Option(help="Directory of the releases.")] = Path("releases"),
    engine: Annotated[
        Engine, typer.Option(envvar=ENVIRONMENT, help="milvus fills a collection first; none for the index in it.")
    ] = Engine.NONE,
    engine_address: Annotated[
        str, typer.Option(envvar=f"{ENVIRONMENT}_ADDRESS", help="Where Milvus is; https:// for TLS.")
    ] = "http://localhost:19530",
    engine_database: Annotated[
        str, typer.Option(envvar=f"{ENVIRONMENT}_DATABASE", help="The database of Milvus.")
    ] = "default",
    engine_token_file: Annotated[
        Path | None, typer.Option(envvar=f"{ENVIRONMENT}_TOKEN_FILE", help="File with user:password or an API key.")
    ] = None,
    engine_ca_file: Annotated[
        Path | None, typer.Option(envvar=f"{ENVIRONMENT}_CA_FILE", help="PEM file of Milvus's authorities.")
    ] = None,
    engine_timeout_seconds: Annotated[
        float, typer.Option(min=1, help="How long one step may take; building the index is one.")
    ] = 3600.0,
    engine_recall: Annotated[
        float, typer.Option(min=0, max=1, help="Least share of the best 200 that Milvus has to find.")
    ] = 0.98,
    engine_keep: Annotated[
        int, typer.Option(min=1, help="How many earlier releases keep their collections, to roll back.")
    ] = 2,
) -> None:
    """Make a release current, for example the one before, to roll back. Running services move to it by themselves.

    With --engine milvus, it becomes current only when Milvus holds it and has been compared with exact search.
    """
    with one_line_errors(ValueError):
        # Before an hour is spent on Milvus.
        check_id(release_id)
        if engine is Engine.NONE:
            make_current(releases, release_id)
            return
        from winnow.distribution import missing_extras_named

        with missing_extras_named("milvus"):
            from winnow.milvus.connection import MilvusAddress
            from winnow.milvus.publication import publish_with_milvus
        address = MilvusAddress(
            uri=engine_address, database=engine_database, token_file=engine_token_file, ca_file=engine_ca_file
        )
        console = Console(emoji=False, highlight=False, soft_wrap=True)
        publish_with_milvus(
            releases,
            release_id,
            address,
            make_current=lambda: make_current(releases, release_id),
            least_recall=engine_recall,
            keep=engine_keep,
            timeout_seconds=engine_timeout_seconds,
            report=lambda line: console.print(line, markup=False),
        )


def check_id(release_id: str) -> None:
    """Raise ReleaseError for a path: CURRENT would name it, and no service would read that."""
    from winnow.release.reader import ReleaseError

    if not release_id or Path(release_id).name != release_id:
        raise ReleaseError(f"{release_id!r} is not the id of a release: give the name of its directory alone")


def make_current(releases: Path, release_id: str) -> None:
    """Point CURRENT at a release and say how to undo that. Raises ReleaseError unless its files are there."""
    from winnow.release.publication import point_current_at
    from winnow.release.reader import ReleaseError, current_release_id, open_release

    check_id(release_id)
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
