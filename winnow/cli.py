"""The command line.

`winnow data | train | items | evaluate | serve | recommend | similar | explain | schema | health | loadtest`
"""

import typer

from winnow.commands.data import data_app
from winnow.commands.evaluate import evaluate
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
app.add_typer(data_app, name="data")
app.command()(train)
app.command()(items)
app.command()(evaluate)
app.command()(serve)
app.command()(recommend)
app.command()(similar)
app.command()(explain)
app.command()(schema)
app.command()(health)
app.command()(loadtest)

if __name__ == "__main__":
    app()
