"""The options of every command that reads a log: what its columns are called, and how to read them."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from winnow.logs.log_format import LogFormat, Ties, TimeUnit

PARAMETER = "log_format"
OPTIONS: dict[str, Any] = {
    "user_column": Annotated[str, typer.Option(help="What the log calls the column user_id.")],
    "item_column": Annotated[str, typer.Option(help="What the log, and perhaps the items file, calls item_id.")],
    "time_column": Annotated[str, typer.Option(help="What the log calls the column timestamp.")],
    "weight_column": Annotated[str, typer.Option(help="What the log calls the optional column weight.")],
    "title_column": Annotated[str, typer.Option(help="What the items file calls the column title.")],
    "time_unit": Annotated[TimeUnit, typer.Option(help="Of the log's times that are numbers.")],
    "no_times": Annotated[
        bool, typer.Option("--no-times", help="The log has no column timestamp, or one that says nothing.")
    ],
    "skip_bad_rows": Annotated[
        bool, typer.Option("--skip-bad-rows", help="Leave out rows of the log that cannot be read, and count them.")
    ],
    "ties": Annotated[
        Ties, typer.Option(help="Order of watches that a user has at the same moment: that of the file, or of a hash.")
    ],
}
"""By the fields of LogFormat."""


def reads_a_log(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command these options in place of its keyword `log_format`."""

    @wraps(command)
    def with_log_format(**arguments: Any) -> None:
        chosen = {name: arguments.pop(name) for name in OPTIONS}
        command(**arguments, **{PARAMETER: LogFormat(**chosen)})

    own = inspect.signature(command)
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=getattr(LogFormat, name), annotation=annotation)
        for name, annotation in OPTIONS.items()
    ]
    kept = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in own.parameters.values()
        if parameter.name != PARAMETER
    ]
    annotations = {parameter.name: parameter.annotation for parameter in [*kept, *options]}
    with_log_format.__annotations__ = annotations
    with_log_format.__signature__ = own.replace(parameters=[*kept, *options])  # type: ignore[attr-defined]
    return with_log_format
