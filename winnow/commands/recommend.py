"""`winnow recommend`: asks a running gateway."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from winnow.client import EventKind, Item, Move, RecommendationRequest, Recommendations, Timing, WinnowError
from winnow.commands.failures import one_line_errors
from winnow.commands.gateway_calls import (
    DEFAULT_TARGET,
    LogOfUser,
    Target,
    Timeout,
    UserOfLog,
    check_history_options,
    gateway_client,
    read_history,
)
from winnow.commands.log_options import reads_a_log
from winnow.commands.printable import printable
from winnow.logs.log_format import LogFormat

SHOWN_WATCHES = 8
# Of a cap or a position.
MAX_DIGITS = 9


@reads_a_log
def recommend(
    log_format: LogFormat,
    item_ids: Annotated[list[str] | None, typer.Argument(help="Watched item ids, oldest first.")] = None,
    title: Annotated[
        list[str] | None,
        typer.Option(
            help="Add the item with this title, else the most popular that has these words in its title, else this "
            "text. May be given several times."
        ),
    ] = None,
    interactions: LogOfUser = None,
    user: UserOfLog = None,
    user_id: Annotated[
        str | None, typer.Option(help="A user whose history the gateway stores; item ids and titles come after it.")
    ] = None,
    users: Annotated[
        Path | None, typer.Option(help="Recommend for every user of this log, in few calls, and write --output.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="The Parquet file for --users. A run that was stopped is continued.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=100, help="How many items to return.")] = 20,
    exclude: Annotated[
        list[str] | None, typer.Option(help="An item id to leave out. May be given several times.")
    ] = None,
    filter_: Annotated[
        str, typer.Option("--filter", help="Only items that match, as in 'genres:Comedy AND year >= 1990'.")
    ] = "",
    allow: Annotated[
        list[str] | None, typer.Option(help="Only this item id. May be given several times, for several ids.")
    ] = None,
    candidate: Annotated[
        list[str] | None,
        typer.Option(help="Rank this item id too. May be given several times, for several ids, the best first."),
    ] = None,
    cap: Annotated[
        list[str] | None,
        typer.Option(
            help="At most so many items with the same value of an attribute: 'genres=2'. Several times for more."
        ),
    ] = None,
    pin: Annotated[
        list[str] | None,
        typer.Option(help="An item id and the position where it stands: 'ID@1'. May be given several times."),
    ] = None,
    diversity: Annotated[
        float | None, typer.Option(min=0, max=1, help="How much the items should differ; the gateway has a default.")
    ] = None,
    include_watched: Annotated[bool, typer.Option(help="Do not leave out watched items.")] = False,
    require_ranked: Annotated[bool, typer.Option(help="Refuse a degraded answer.")] = False,
    target: Target = DEFAULT_TARGET,
    timeout_seconds: Timeout = 5.0,
) -> None:
    """Print recommendations for a watch history as a table with titles, or write those of all users to a file."""
    if (users is None) is not (output is None) or (
        users is not None
        and (
            item_ids
            or title
            or exclude
            or candidate
            or any(given is not None for given in (interactions, user, user_id))
        )
    ):
        raise typer.BadParameter(
            "--users and --output go together, without a history, without --exclude and without --candidate"
        )
    check_history_options(item_ids, title, interactions, user)
    caps, pinned_items = _numbers("--cap", cap, "="), _numbers("--pin", pin, "@")
    if users is not None and output is not None:
        asked = RecommendationRequest(
            count=count,
            include_watched=include_watched,
            require_ranked=require_ranked,
            filter=filter_,
            allowed_item_ids=allow or None,
            caps=caps,
            pinned_items=pinned_items,
            diversity=diversity,
        )
        _recommend_users(users, output, asked, target, timeout_seconds, log_format)
        return
    with gateway_client("recommend", target, timeout_seconds) as winnow:
        history = read_history(winnow, "recommend", item_ids, title, interactions, user, log_format)
        answer = winnow.recommend(
            history,
            count=count,
            filter=filter_,
            allowed_item_ids=allow,
            excluded_item_ids=exclude or (),
            include_watched=include_watched,
            require_ranked=require_ranked,
            candidate_item_ids=candidate or (),
            caps=caps,
            pinned_items=pinned_items,
            diversity=diversity,
            user_id=user_id,
        )
        stored = [] if user_id is None else winnow.history(user_id)
        watched = [event.item_id for event in stored if event.kind is EventKind.WATCH]
        watched += [watch.item_id for watch in history]
        titles = winnow.items([*watched[-SHOWN_WATCHES:], *(item.item_id for item in answer.items)]).by_id
    print_answer(Console(emoji=False), watched, answer, titles)


def _recommend_users(
    log: Path,
    output: Path,
    asked: RecommendationRequest,
    target: str,
    timeout_seconds: float,
    log_format: LogFormat,
) -> None:
    from winnow.bulk.run import recommend_users

    console = Console(emoji=False, stderr=True)
    with one_line_errors(ValueError):
        try:
            statuses = recommend_users(
                log,
                output,
                asked,
                target=target,
                timeout_seconds=timeout_seconds,
                console=console,
                log_format=log_format,
            )
        except WinnowError as error:
            raise ValueError(f"winnow recommend: {error}. The same command continues.") from None
    failed = {status: count for status, count in statuses.items() if status != "OK"}
    console.print(f"{output}: {statuses['OK']} users", highlight=False)
    for status, count in sorted(failed.items()):
        console.print(f"[yellow]{status}:[/yellow] {count} users, see the column `error`", highlight=False)


def print_answer(console: Console, watched: Sequence[str], answer: Recommendations, titles: Mapping[str, Item]) -> None:
    """Print the titles of the last watches, the recommended items with their scores, and where the time went."""

    def shown(item_id: str) -> str:
        return printable(titles[item_id].title if item_id in titles else f"{item_id} (unknown)")

    latest = ", ".join(map(shown, watched[-SHOWN_WATCHES:]))
    more = f"{len(watched) - SHOWN_WATCHES} more, then " if len(watched) > SHOWN_WATCHES else ""
    console.print(f"Watched: {more}{latest or 'nothing'}", markup=False, highlight=False)
    with_sources, moved = any(item.sources for item in answer.items), any(item.move for item in answer.items)
    further = [name for name, shown_too in (("sources", with_sources), ("moved", moved)) if shown_too]
    table = Table("", "title", "score", "item id", *further)
    for position, item in enumerate(answer.items, start=1):
        more_cells = [", ".join(f"{named.source} {named.place}" for named in item.sources)] if with_sources else []
        more_cells += [describe_move(item.move)] if moved else []
        table.add_row(
            str(position), Text(shown(item.item_id)), f"{item.score:.4f}", Text(printable(item.item_id)), *more_cells
        )
    console.print(table)
    ranked = f"{answer.ranked_count} of {answer.retrieved_count} candidates ranked"
    arm = f", arm {answer.experiment_arm}" if answer.experiment_arm else ""
    console.print(f"Release {answer.release_id}{arm}, {ranked}", highlight=False)
    console.print(_times(answer.timing), highlight=False)
    console.print(f"Recommendation {answer.recommendation_id}", highlight=False)
    if answer.unknown_history_count:
        console.print(
            f"Watched ids that the release does not know, and that were skipped: {answer.unknown_history_count}"
        )
    if answer.unknown_candidate_count:
        console.print(f"{answer.unknown_candidate_count} candidate ids are unknown to the release and were skipped.")
    if answer.unknown_pinned_count:
        console.print(f"{answer.unknown_pinned_count} pinned ids are unknown to the release and were skipped.")
    if answer.excluded_pinned_count:
        console.print(f"{answer.excluded_pinned_count} pinned items are watched, excluded or do not match the filter.")
    if answer.degraded:
        console.print(f"[yellow]Degraded:[/yellow] {answer.degradation.step} ({answer.degradation.reason})")


def describe_move(move: Move | None) -> str:
    """Say where ranking had put an item, and why it does not stand there; nothing where it does."""
    if move is None:
        return ""
    reasons = ", ".join(reason.lower().replace("_", " ") for reason in move.reasons)
    return f"{reasons} (no candidate)" if move.ranked_position is None else f"{reasons} (ranked {move.ranked_position})"


def _numbers(option: str, given: list[str] | None, separator: str) -> dict[str, int] | None:
    """Read options like `genres=2`; the name may hold the separator too."""
    if not given:
        return None
    numbers = {}
    for text in given:
        name, found, number = text.rpartition(separator)
        if not found or not name or not number.isdecimal() or len(number) > MAX_DIGITS:
            raise typer.BadParameter(f"{option} {text!r}: a name, {separator!r} and a whole number are needed")
        if name in numbers:
            raise typer.BadParameter(f"{option} names {name!r} twice")
        numbers[name] = int(number)
    return numbers


def _times(timing: Timing) -> str:
    steps = (
        ("reading the history", timing.users_milliseconds, None),
        ("waiting", timing.wait_milliseconds, None),
        ("retrieving", timing.retrieve_milliseconds, timing.retrieve_compute_milliseconds),
        ("further sources", timing.sources_milliseconds, None),
        ("ranking", timing.rank_milliseconds, timing.rank_compute_milliseconds),
        ("selecting", timing.select_milliseconds, None),
    )
    taken = [
        f"{name} {milliseconds:.1f}" + ("" if computing is None else f" (computing {computing:.1f})")
        for name, milliseconds, computing in steps
        if milliseconds is not None
    ]
    return f"{timing.total_milliseconds:.1f} ms: {', '.join(taken)}"
