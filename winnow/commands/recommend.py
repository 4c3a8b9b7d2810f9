"""`winnow recommend`: asks a running gateway."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from winnow.client import Answer, Item, WinnowClient, WinnowError

# The gateway's default limit of watches in a request.
HISTORY_LIMIT = 1000
LARGEST_VOCABULARY = 2**31 - 1


def recommend(
    item_ids: Annotated[list[str] | None, typer.Argument(help="Watched item ids, oldest first.")] = None,
    title: Annotated[
        list[str] | None,
        typer.Option(help="Add the most popular item whose title contains this; may be given several times."),
    ] = None,
    interactions: Annotated[
        Path | None, typer.Option(help="Take the history of --user from this log, with its weights and timestamps.")
    ] = None,
    user: Annotated[str | None, typer.Option(help="A user of that log, instead of item ids and titles.")] = None,
    count: Annotated[int, typer.Option(help="How many items.")] = 20,
    exclude: Annotated[list[str] | None, typer.Option(help="An item id that must not be in the answer.")] = None,
    include_watched: Annotated[bool, typer.Option(help="Watched items may be in the answer.")] = False,
    require_ranked: Annotated[bool, typer.Option(help="Refuse a degraded answer.")] = False,
    target: Annotated[str, typer.Option(envvar="WINNOW_TARGET", help="Where the gateway answers.")] = "localhost:50050",
    timeout_seconds: Annotated[float, typer.Option(help="Deadline of each call.")] = 5.0,
) -> None:
    """Print recommendations for a watch history as a table with titles."""
    console, errors = Console(), Console(stderr=True)
    if (interactions is None) is not (user is None) or (user is not None and (item_ids or title)):
        raise typer.BadParameter("--interactions and --user go together, and instead of item ids and titles")
    try:
        with WinnowClient(target, timeout_seconds=timeout_seconds) as winnow:
            weights: list[float] = []
            timestamps: list[int] = []
            if interactions is not None and user is not None:
                history, weights, timestamps = _watches(interactions, user)
            else:
                history = [*(item_ids or ()), *(_find(winnow, text).item_id for text in title or ())]
            answer = winnow.recommend(
                history,
                history_weights=weights,
                history_timestamps=timestamps,
                count=count,
                excluded_item_ids=exclude or (),
                include_watched=include_watched,
                require_ranked=require_ranked,
            )
            titles = winnow.items([*history, *(item.item_id for item in answer.items)])
    except WinnowError as error:
        errors.print(f"[red]winnow recommend:[/red] {error}", highlight=False)
        for field, description in error.violations:
            errors.print(f"  {field} {description}", highlight=False, markup=False)
        raise SystemExit(1) from None
    print_answer(console, history, answer, titles)


def print_answer(console: Console, history: list[str], answer: Answer, titles: dict[str, Item]) -> None:
    """Print the watched titles, the ranked ones with their scores, and where the time went."""

    def shown(item_id: str) -> str:
        return titles[item_id].title if item_id in titles else f"{item_id} (unknown)"

    watched = ", ".join(map(shown, history[-8:]))
    more = f"{len(history) - 8} more, then " if len(history) > 8 else ""
    console.print(f"Watched: {more}{watched or 'nothing'}", markup=False, highlight=False)
    table = Table("", "title", "score", "item id")
    for position, item in enumerate(answer.items, start=1):
        table.add_row(str(position), Text(shown(item.item_id)), f"{item.score:.4f}", Text(item.item_id))
    console.print(table)
    times = answer.times
    console.print(
        f"{times.total_milliseconds:.1f} ms: candidate stage {times.candidate_milliseconds:.1f} "
        f"(computing {times.candidate_compute_milliseconds:.1f}), ranking stage {times.ranking_milliseconds:.1f} "
        f"(computing {times.ranking_compute_milliseconds:.1f}); {answer.candidate_count} candidates, "
        f"release {answer.release_id}",
        highlight=False,
    )
    if answer.unknown_history_count:
        console.print(f"{answer.unknown_history_count} watched ids are unknown to the release and were skipped.")
    if answer.degradation:
        console.print(f"[yellow]Degraded:[/yellow] {answer.degradation} ({answer.degradation_reason})")


def _watches(interactions: Path, user: str) -> tuple[list[str], list[float], list[int]]:
    """Read the latest watches of a user, with their weights and timestamps, from a log as `winnow train` reads it."""
    from winnow.logs.interactions import read_interactions

    try:
        log = read_interactions(interactions, vocabulary_size=LARGEST_VOCABULARY, min_item_count=1)
        watches = log.of_user(user)
    except ValueError as error:
        raise SystemExit(f"winnow recommend: {error}") from None
    latest = slice(-HISTORY_LIMIT, None)
    return watches.item_ids[latest], watches.weights[latest], watches.timestamps[latest]


def _find(winnow: WinnowClient, text: str) -> Item:
    found = winnow.search(text, count=1)
    if not found:
        raise SystemExit(f"winnow recommend: no title contains {text!r}")
    return found[0]
