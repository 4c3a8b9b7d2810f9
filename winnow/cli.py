"""The command line.

`winnow data | check | train | items | evaluate | serve | events | recommend | similar | explain | schema | health |
loadtest`
"""

from importlib.metadata import version
from typing import Annotated

import typer

from winnow.commands.check import check
from winnow.commands.data import data_app
from winnow.commands.evaluate import evaluate
from winnow.commands.events import events_app
from winnow.commands.explain import explain
from winnow.commands.health import health
from winnow.commands.items import items
from winnow.commands.loadtest import loadtest
from winnow.commands.recommend import recommend
from winnow.commands.schema import schema
from winnow.commands.serve import serve
from winnow.commands.similar import similar
from winnow.commands.train import train

app = typer.Typer(
    help="A two-stage recommender over gRPC: candidate generation, ranking, and a gateway that chains them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"winnow {version('winnow')}")
        raise typer.Exit


@app.callback()
def winnow(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """A two-stage recommender over gRPC: candidate generation, ranking, and a gateway that chains them."""


app.add_typer(data_app, name="data")
app.command()(check)
app.command()(train)
app.command()(items)
app.command()(evaluate)
app.command()(serve)
app.command()(recommend)
app.add_typer(events_app, name="events")
app.command()(similar)
app.command()(explain)
app.command()(schema)
app.command()(health)
app.command()(loadtest)

if __name__ == "__main__":
    app()
