"""`winnow events`: fills the gateway's store of users from a log, shows what it has of a user, and removes users."""

from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from winnow.client import Event, WinnowClient, WinnowError
from winnow.commands.failures import one_line_errors
from winnow.commands.gateway_calls import DEFAULT_TARGET, Target, Timeout, gateway_client, print_failure
from winnow.commands.log_options import reads_a_log
from winnow.commands.printable import printable
from winnow.logs.log_format import LogFormat
from winnow.users.events import MAX_USER_ID_BYTES

if TYPE_CHECKING:
    import polars as pl

# As many as one call carries.
EVENTS_PER_CALL = 1000
MICROSECONDS_PER_SECOND = 1_000_000
# Added to the time in an event id: no time is negative then, and ids sort by time.
TIME_OFFSET_MICROSECONDS = 1 << 62

UserId = Annotated[str, typer.Argument(help="The user's id.", show_default=False)]

events_app = typer.Typer(
    no_args_is_help=True, help="Write, show and delete the events of users in the gateway's store."
)


@events_app.callback()
def events() -> None:
    """Write, show and delete the events of users in the gateway's store."""


@events_app.command()
@reads_a_log
def write(
    log_format: LogFormat,
    log: Annotated[Path, typer.Argument(help="A log of watches, as `winnow train --interactions` reads it.")],
    target: Target = DEFAULT_TARGET,
    timeout_seconds: Timeout = 10.0,
) -> None:
    """Store the watches of a log. One that is stored already is left as it is: the same command again continues."""
    from winnow.logs.watches import read_watches

    errors = Console(emoji=False, stderr=True, highlight=False, soft_wrap=True)
    with one_line_errors(ValueError):
        watches = read_watches(log, log_format)
        for remark in watches.rows.remarks():
            errors.print(remark, markup=False)
        for frame in watches.frames():
            _check(log, frame)
    event_count = watches.watch_count - watches.rows.repeated_count
    user_count = 0
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("events"), TimeElapsedColumn(), TimeRemainingColumn())
    try:
        with (
            WinnowClient(target, timeout_seconds=timeout_seconds) as winnow,
            Progress(*columns, console=errors) as progress,
        ):
            bar = progress.add_task("", total=event_count)
            for frame in map(_once, watches.frames()):
                for sent in frame.iter_slices(EVENTS_PER_CALL):
                    winnow.write_events(_events(sent))
                    progress.advance(bar, sent.height)
                user_count += frame["user_id"].n_unique()
    except WinnowError as error:
        print_failure("events write", error)
        errors.print("What was sent before is stored. The same command continues.")
        raise SystemExit(1) from None
    print_count(f"{log}: {event_count:,} events of {user_count:,} users are stored")


@events_app.command()
def show(
    user_id: UserId,
    count: Annotated[int, typer.Option(min=1, help="How many events to show: the latest ones.")] = 50,
    target: Target = DEFAULT_TARGET,
    timeout_seconds: Timeout = 5.0,
) -> None:
    """Print the stored events of a user, the oldest first."""
    with gateway_client("events show", target, timeout_seconds) as winnow:
        found = winnow.history(user_id)
        titles = winnow.items(event.item_id for event in found[-count:]).by_id if found else {}
    console = Console(emoji=False)
    if found:
        latest = found[-count:]
        # In a narrow terminal, the time and the ids stay whole, and titles are broken.
        joined = any(event.recommendation_id for event in latest)
        table = Table(Column("time (UTC)", no_wrap=True), "kind", "title", "item id", "weight")
        if joined:
            table.add_column("recommendation", overflow="fold")
        table.add_column("event id", overflow="fold")
        for event in latest:
            item = titles.get(event.item_id)
            table.add_row(
                _time(event),
                str(event.kind),
                Text(printable(item.title) if item is not None else "(unknown)"),
                Text(printable(event.item_id)),
                "" if event.weight is None else f"{event.weight:g}",
                *([Text(printable(event.recommendation_id))] if joined else []),
                Text(printable(event.event_id)),
            )
        console.print(table)
    shown = f", the latest {count} are shown" if len(found) > count else ""
    print_count(f"{user_id}: {len(found):,} events{shown}")


@events_app.command()
def delete(
    user_id: UserId,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    target: Target = DEFAULT_TARGET,
    timeout_seconds: Timeout = 5.0,
) -> None:
    """Remove all stored events of a user. Asks first."""
    if not yes:
        typer.confirm(f"Remove all stored events of {user_id!r}?", abort=True)
    with gateway_client("events delete", target, timeout_seconds) as winnow:
        deleted_count = winnow.delete_user(user_id)
    print_count(f"{user_id}: {deleted_count:,} events were removed")


def print_count(line: str) -> None:
    """Print a line that may hold an id."""
    Console(emoji=False, highlight=False, soft_wrap=True).print(printable(line), markup=False)


def event_id(item_id: str, microseconds: int) -> str:
    """Return the id that a watch of a log always gets: 33 characters, which sort by time."""
    digest = blake2b(item_id.encode(), digest_size=8).hexdigest()
    return f"{microseconds + TIME_OFFSET_MICROSECONDS:016x}-{digest}"


def _check(log: Path, frame: "pl.DataFrame") -> None:
    """Raise ValueError for a watch that the store cannot hold."""
    for wrong, problem in (
        (frame["user_id"].str.len_bytes() > MAX_USER_ID_BYTES, f"a user id longer than {MAX_USER_ID_BYTES} bytes"),
        (frame["microseconds"] // MICROSECONDS_PER_SECOND == 0, "the time 0, which is not stored"),
    ):
        if wrong.any():
            raise ValueError(f"{log}: rows with {problem}: {int(wrong.sum())}")


def _once(frame: "pl.DataFrame") -> "pl.DataFrame":
    """Return each watch once, those of a user together."""
    once = frame.unique(["user_id", "item_id", "microseconds"], keep="first", maintain_order=True)
    return once.sort("user_id", "microseconds", maintain_order=True)


def _events(part: "pl.DataFrame") -> Iterator[Event]:
    for user_id, item_id, microseconds, weight in part.select(
        "user_id", "item_id", "microseconds", "weight"
    ).iter_rows():
        yield Event(
            user_id=user_id,
            item_id=item_id,
            time=microseconds // MICROSECONDS_PER_SECOND,
            weight=weight,
            event_id=event_id(item_id, microseconds),
        )


def _time(event: Event) -> str:
    """ISO 8601, in whole seconds; the number where a calendar has no such year."""
    seconds = float(event.time) if isinstance(event.time, int | float) else event.time.timestamp()
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{seconds:.0f}"
