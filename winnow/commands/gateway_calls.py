"""What the commands that ask a gateway share: where it is, how a call fails, and a history from titles or a log."""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from winnow.client import Item, SearchPage, Watch, WinnowClient, WinnowError
from winnow.commands.printable import printable
from winnow.logs.log_format import LogFormat

if TYPE_CHECKING:
    from winnow.logs.interactions import Interactions

DEFAULT_TARGET = "localhost:50050"
Target = Annotated[str, typer.Option(envvar="WINNOW_TARGET", help="Address of the gateway.")]
Timeout = Annotated[float, typer.Option(help="Deadline of each call.")]
LogOfUser = Annotated[
    Path | None, typer.Option(help="Take the history of --user from this log, with its weights and timestamps.")
]
UserOfLog = Annotated[str | None, typer.Option(help="A user of that log, instead of item ids and titles.")]

# The gateway's default limit of watches in a request.
MAX_HISTORY_ITEMS = 1000
# A title is looked for among this many pages of items that contain it, and this many of the others are named.
MAX_SEARCH_PAGES, NAMED_OTHERS = 10, 3


@contextmanager
def gateway_client(command: str, target: str, timeout_seconds: float) -> Iterator[WinnowClient]:
    """Yield a client. Where a call fails, print why and exit with status 1."""
    try:
        with WinnowClient(target, timeout_seconds=timeout_seconds) as winnow:
            yield winnow
    except WinnowError as error:
        print_failure(command, error)
        raise SystemExit(1) from None


def print_failure(command: str, error: WinnowError) -> None:
    """Print why a call failed: what is wrong with the request, a line for each field, or the status."""
    errors = Console(emoji=False, stderr=True)
    wrong = [f"the gateway refused the request: {field} {text}" for field, text in error.violations]
    for line in wrong or [str(error)]:
        errors.print(f"[red]winnow {command}:[/red] {escape(printable(line))}", highlight=False)
    if "failed to connect" in error.message.lower():
        errors.print("Is `winnow serve` running, and --target its address?", highlight=False)


def check_history_options(
    item_ids: Sequence[str] | None, titles: Sequence[str] | None, interactions: Path | None, user: str | None
) -> None:
    """Raise BadParameter where the options do not name one history."""
    if (interactions is None) is not (user is None) or (user is not None and (item_ids or titles)):
        raise typer.BadParameter("--interactions and --user go together, without item ids and titles")


def read_history(
    winnow: WinnowClient,
    command: str,
    item_ids: Sequence[str] | None,
    titles: Sequence[str] | None,
    interactions: Path | None,
    user: str | None,
    log_format: LogFormat,
) -> list[Watch]:
    """Return the history that the options name, see `check_history_options`. Exit where there is none."""
    if interactions is not None and user is not None:
        return _history_of(interactions, user, log_format, command)
    found = [find_by_title(winnow, text, command).item_id for text in titles or ()]
    return [Watch(item_id) for item_id in (*(item_ids or ()), *found)]


def find_by_title(winnow: WinnowClient, text: str, command: str) -> Item:
    """Return the item that matches a text best; say which others do. Exit where none does."""
    matches = choose_by_title(text, winnow.search_pages(text))
    if not matches:
        raise SystemExit(f"winnow {command}: no title contains {text!r}")
    chosen, *others = (f"{item.title!r} ({item.item_id})" for item in matches)
    if others:
        named = ", ".join(others[:NAMED_OTHERS]) + (", ..." if len(others) > NAMED_OTHERS else "")
        Console(emoji=False, stderr=True).print(
            f"--title {text!r} matches several items: {chosen} was taken, the others are {named}",
            markup=False,
            highlight=False,
        )
    return matches[0]


def choose_by_title(text: str, pages: Iterable[SearchPage]) -> list[Item]:
    """Return the items that match a text best, the most popular first.

    Equal titles are best, then those in which the text is whole words, then all others; of both kinds first those that
    begin with it. `pages` are the items whose title contains the text. Only the first pages are read where there are
    many.
    """
    wanted = text.casefold()
    whole_words = re.compile(rf"(?<!\w){re.escape(wanted)}(?!\w)")
    matches: dict[tuple[bool, bool], list[Item]] = {}
    for page in islice(pages, MAX_SEARCH_PAGES):
        equal = [item for item in page.items if item.title.casefold() == wanted]
        if equal:
            return equal
        for item in page.items:
            title = item.title.casefold()
            match = whole_words.search(title) is not None, title.startswith(wanted)
            matches.setdefault(match, []).append(item)
    return matches[max(matches)] if matches else []


def watches_of(log: "Interactions", user_id: str) -> list[Watch]:
    """Return the watches of a user with their weights and times, oldest first. Raises ValueError for an unknown one."""
    watches = log.of_user(user_id)
    return list(map(Watch, watches.item_ids, watches.weights, watches.timestamps))


def _history_of(interactions: Path, user: str, log_format: LogFormat, command: str) -> list[Watch]:
    """Read the latest watches of a user from a log. Exit where that is impossible."""
    from winnow.logs.interactions import read_interactions

    try:
        log = read_interactions(interactions, log_format=log_format)
        for remark in log.rows.remarks():
            Console(emoji=False, stderr=True).print(remark, markup=False, highlight=False, soft_wrap=True)
        return watches_of(log, user)[-MAX_HISTORY_ITEMS:]
    except ValueError as error:
        raise SystemExit(f"winnow {command}: {error}") from None
