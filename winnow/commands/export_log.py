"""`winnow export-log`: from stored events and logged answers to the files that `winnow train` reads."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from winnow.commands.failures import one_line_errors
from winnow.loop.join import Shown

# Read by `winnow retrain` too.
UsersStore = Annotated[
    str,
    typer.Option(
        envvar="WINNOW_GATEWAY_USERS_STORE", help="The gateway's store of users: an SQLite file, or a redis:// URL."
    ),
]
AnswerLogs = Annotated[
    list[Path] | None,
    typer.Option(
        envvar="WINNOW_GATEWAY_ANSWER_LOG",
        help="Directory of an answer log. May be given several times: those of all gateways that share the store.",
    ),
]
ShownOption = Annotated[
    Shown,
    typer.Option(
        help="What counts as shown: all items of each answer that no impression event cites (answers), or only what "
        "impression events name (events)."
    ),
]
SkipBadRows = Annotated[
    bool, typer.Option("--skip-bad-rows", help="Leave out lines of the answer log that cannot be read, and count them.")
]


def export_log(
    users_store: UsersStore,
    answer_log: AnswerLogs = None,
    output: Annotated[Path, typer.Option(help="Directory for the two files.")] = Path("export"),
    shown: ShownOption = "answers",
    skip_bad_rows: SkipBadRows = False,
    compact: Annotated[
        bool, typer.Option("--compact", help="Also rewrite the answer log's finished files without deleted users.")
    ] = False,
) -> None:
    """Write the stored watches, and what users were shown and did with it, for `winnow train`."""
    import asyncio

    from winnow.answer_log.compaction import compact as compact_log
    from winnow.loop.export import IMPRESSIONS_FILE, WATCHES_FILE, export_from

    logs = answer_log or []
    console = Console(emoji=False, highlight=False, soft_wrap=True)
    with one_line_errors(ValueError):
        done = asyncio.run(export_from(users_store, logs, output, shown=shown, skip_bad_rows=skip_bad_rows))
        for line in done.lines():
            console.print(line, markup=False)
        console.print(f"written: {output / WATCHES_FILE} and {output / IMPRESSIONS_FILE}", markup=False)
        if compact:
            made = compact_log(logs)
            console.print(
                f"{made.removed_record_count:,} answers of deleted users were taken out of {made.rewritten_count:,} "
                f"files; {made.busy_count:,} files are being written and were left alone"
            )
