"""Progress of a comparison: a bar, or now and then a line where there is no terminal."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from winnow.evaluation.compare import Report

# Without a terminal.
SECONDS_PER_LINE = 15.0


@contextmanager
def comparison_progress(console: Console) -> Iterator[Report]:
    """Yield what `compare` reports to; a bar disappears at the end."""
    if not console.is_terminal:
        yield _lines(console)
        return
    with Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as progress:
        yield _bar(progress)


def _bar(progress: Progress) -> Report:
    tasks: dict[str, TaskID] = {}

    def report(what: str, done: int, total: int) -> None:
        if what not in tasks:
            for task in tasks.values():
                progress.remove_task(task)
            tasks.clear()
            tasks[what] = progress.add_task(what, total=total or None)
        progress.update(tasks[what], completed=done)

    return report


def _lines(console: Console) -> Report:
    last_line = time.monotonic()

    def report(what: str, done: int, total: int) -> None:
        nonlocal last_line
        if time.monotonic() - last_line < SECONDS_PER_LINE:
            return
        last_line = time.monotonic()
        console.print(f"{what}: {done:,} of {total:,} watches" if total else what, highlight=False, soft_wrap=True)

    return report
