"""The command line: each command is a file in `winnow/commands`."""

from importlib.metadata import version
from typing import Annotated

import typer

from winnow.commands.check import check
from winnow.commands.data import data_app
from winnow.commands.evaluate import evaluate
from winnow.commands.events import events_app
from winnow.commands.experiment import experiment_app
from winnow.commands.explain import explain
from winnow.commands.explore import explore
from winnow.commands.export_log import export_log
from winnow.commands.fetch_release import fetch_release
from winnow.commands.health import health
from winnow.commands.items import items
from winnow.commands.loadtest import loadtest
from winnow.commands.plan import plan
from winnow.commands.publish import publish
from winnow.commands.recommend import recommend
from winnow.commands.retrain import retrain
from winnow.commands.schema import schema
from winnow.commands.serve import serve
from winnow.commands.similar import similar
from winnow.commands.train import train
from winnow.commands.tune import tune
from winnow.distribution import NAME

app = typer.Typer(
    help="A two-stage recommender over gRPC: candidate generation, ranking, and a gateway that chains them.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"winnow {version(NAME)}")
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
app.command()(tune)
app.command()(export_log)
app.command()(retrain)
app.command()(items)
app.command()(publish)
app.add_typer(experiment_app, name="experiment")
app.command()(evaluate)
app.command()(serve)
app.command()(recommend)
app.add_typer(events_app, name="events")
app.command()(similar)
app.command()(explain)
app.command()(explore)
app.command()(schema)
app.command()(health)
app.command()(loadtest)
app.command()(plan)
app.command()(fetch_release)

if __name__ == "__main__":
    app()
