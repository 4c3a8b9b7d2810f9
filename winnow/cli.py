"""The command line: `winnow data | train | serve | recommend`."""

import typer

from winnow.commands.health import health
from winnow.commands.recommend import recommend
from winnow.commands.serve import serve

app = typer.Typer(
    help="A two-stage recommender over gRPC: candidate generation, ranking, and a gateway that chains them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
app.command()(serve)
app.command()(recommend)
app.command()(health)

if __name__ == "__main__":
    app()
