"""The whole loop on MovieLens-1M: fetch, train, release, serve, recommend, look. `make demo` runs it.

A second run reuses the data and the release of the first one. In a terminal it ends with the explorer open.
"""

import asyncio
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from winnow.client import RecommendationRequest, WinnowClient
from winnow.commands.data import movielens_1m
from winnow.commands.explain import print_explanation
from winnow.commands.explore import LogOfUsers
from winnow.commands.gateway_calls import watches_of
from winnow.commands.recommend import print_answer
from winnow.evaluation.figures_table import figures_table
from winnow.explorer.server import address_of, bind, serve
from winnow.explorer.settings import SERVICES, ExplorerSettings
from winnow.logs.datasets.movielens import DataSet, data_set_in
from winnow.logs.interactions import Interactions, read_interactions
from winnow.release.reader import Release, ReleaseError, open_current_release, open_release
from winnow.serving.local_stack import LocalStack, StackSettings, forward_signals_as_exit, free_port, is_free
from winnow.training import automatic

DATA = Path("data")
RELEASES = Path("releases")
# Any users would do; these are spread over the log, so that their histories differ.
USERS = ("1", "5000", "1000")
EXPLAINED_WATCHES = 5
FILTER = "genres:Comedy AND year >= 1990"
MOST_OF_A_GENRE = 2
LOG = Path("runs") / "demo.log"
LOG_WIDTH = 120
# Of the log, where the demo fails.
LAST_LINES = 20
EXPLORER_PORT = 8050
SHOWN_FIGURES = {"popularity": "  the most popular films", "ease": "  EASE", "chain": "  Winnow"}


def main() -> int:
    """Run every step, return the exit status, and show the end of the log where a step fails."""
    screen = Console(highlight=False)
    forward_signals_as_exit()
    LOG.parent.mkdir(parents=True, exist_ok=True)
    with LOG.open("w") as log:
        try:
            demo(screen, log)
        except KeyboardInterrupt:
            screen.print("Stopped. The next run continues where this one was.")
            return 130
        except Exception:
            traceback.print_exc(file=log)
            log.flush()
            screen.print(f"\n[red]The demo has failed.[/red] The end of {LOG}:\n")
            screen.print(*LOG.read_text().splitlines()[-LAST_LINES:], sep="\n", markup=False, soft_wrap=True)
            return 1
    return 0


def demo(screen: Console, log: TextIO) -> None:
    """Print the essentials to the screen, and everything else to the log."""
    everything = Console(file=log, highlight=False, width=LOG_WIDTH)
    screen.print(
        "[bold]Winnow on MovieLens-1M[/bold], a million film ratings (for research only).\n"
        "Fetches them, trains both networks, serves them and recommends.\n"
        f"Under 8 minutes on 2 cores; a second run takes seconds. Log: {LOG}\n"
    )
    with step(screen, log, "Data"):
        movielens_1m(DATA)
        data = data_set_in(DATA)
        interactions = read_interactions(data.interactions, vocabulary_size=10_000, min_item_count=1)
    with step(screen, log, "Release"):
        release = current_release() or train(data, everything)
        everything.print(f"release {release.release_id}, {release.manifest.item_count:,} items")
    for part, figures in release.manifest.figures.items():
        everything.print(figures_table(f"held-out {part}: leave-last-out, all items ranked, seen filtered", figures))
    metrics_ports = {service: free_port("127.0.0.1") for service in SERVICES}
    settings = StackSettings(
        releases=RELEASES,
        flags={"all": ["--log-level=warning"]}
        | {service: [f"--metrics-port={port}"] for service, port in metrics_ports.items()},
        output=log,
    )
    with ExitStack() as stopped_at_the_end:
        with step(screen, log, "Three services"):
            stack = stopped_at_the_end.enter_context(LocalStack(settings))
        with WinnowClient(stack.gateway_target, timeout_seconds=5) as winnow:
            winnow.recommend([])  # the first call has to connect
            print_figures(screen, release.manifest.figures["test"])
            print_five(screen, winnow, interactions)
            print_more(everything, winnow, interactions)
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            print_where_next(screen, None)
            return
        explorer = ExplorerSettings(
            targets=(stack.gateway_target,),
            port=EXPLORER_PORT if is_free("127.0.0.1", EXPLORER_PORT) else 0,
            stage_targets={service: stack.address(service) for service in ("candidate_service", "ranking_service")},
            metrics_urls={service: f"http://127.0.0.1:{port}/metrics" for service, port in metrics_ports.items()},
            user_log=LogOfUsers("MovieLens", interactions),
        )
        with bind(explorer) as bound:
            print_where_next(screen, f"{address_of(bound)}?user={USERS[-1]}&source=log")
            with redirected(log), suppress(KeyboardInterrupt):
                asyncio.run(serve(explorer, bound))
    screen.print("Stopped.")


def print_figures(screen: Console, figures: Mapping[str, Mapping[str, float]]) -> None:
    """Show the quality beside two baselines."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("How good: is the next film among the best 10?", style="dim")
    table.add_column("HR@10", justify="right")
    table.add_column("NDCG@10", justify="right")
    for name, shown in SHOWN_FIGURES.items():
        if name not in figures:  # a release that was made elsewhere
            continue
        style = "bold" if name == "chain" else ""
        table.add_row(shown, f"{figures[name]['hr_at_10']:.3f}", f"{figures[name]['ndcg_at_10']:.3f}", style=style)
    screen.print()
    screen.print(table)


def print_five(screen: Console, winnow: WinnowClient, log: Interactions) -> None:
    """Show what one person watched last, and five recommendations."""
    history = watches_of(log, USERS[-1])
    answer = winnow.recommend(history, count=5)
    latest = [watch.item_id for watch in history[-3:]]
    titles = winnow.items([*latest, *(item.item_id for item in answer.items)]).by_id
    watched = ", ".join(titles[item_id].title for item_id in latest)
    screen.print(f"\nPerson {USERS[-1]} watched {len(history)} films, at last {watched}.", markup=False)
    screen.print("Winnow recommends")
    for position, item in enumerate(answer.items, start=1):
        screen.print(f"  {position}  {titles[item.item_id].title}", markup=False)


def print_more(console: Console, winnow: WinnowClient, log: Interactions) -> None:
    """Recommendations for several people, with a filter, with a cap, and why one of them is there."""
    for user in USERS:
        history = watches_of(log, user)
        answer = winnow.recommend(history, count=10)
        watched = [watch.item_id for watch in history]
        found = winnow.items([*watched, *(item.item_id for item in answer.items)])
        console.print(f"\n[bold]User {user}[/bold]")
        print_answer(console, watched, answer, found.by_id)
    comedies = winnow.recommend(history, count=5, filter=FILTER)
    titles = winnow.items(item.item_id for item in comedies.items).by_id.values()
    console.print(f"\nUser {user}, {FILTER}: {', '.join(item.title for item in titles)}", markup=False)
    capped = winnow.recommend(history, count=5, caps={"genres": MOST_OF_A_GENRE})
    titles = winnow.items(item.item_id for item in capped.items).by_id.values()
    listed = ", ".join(item.title for item in titles)
    console.print(f"User {user}, at most {MOST_OF_A_GENRE} films of a genre: {listed}", markup=False)
    explained = comedies.items[0].item_id
    why = winnow.explain(RecommendationRequest(history, filter=FILTER), explained, watch_count=EXPLAINED_WATCHES)
    shown = winnow.items([explained, *(watch.item_id for watch in why.contributions)]).by_id
    console.print(f"\n[bold]Why that comedy for user {user}[/bold]")
    print_explanation(console, explained, why, shown)


def print_where_next(screen: Console, explorer: str | None) -> None:
    """Say where to look next."""
    rows = {
        "More answers, and why": str(LOG),
        "Keep it running": "winnow serve, then winnow explore",
        "Your own data": "README.md",
    }
    if explorer is not None:
        rows = {"Open (Ctrl-C ends all)": explorer} | rows
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for what, where in rows.items():
        table.add_row(what, Text(where, style="bold"))
    screen.print()
    screen.print(table)


def train(data: DataSet, console: Console) -> Release:
    """Train both networks with settings that follow from the log, and write a release."""
    import torch

    from winnow.training.run import RunPaths, run

    paths = RunPaths(
        interactions=data.interactions,
        items=data.items,
        releases=RELEASES,
        checkpoints=Path("runs") / automatic.NAME,
    )
    # An interrupted run continues where it stopped.
    resume = paths.checkpoints.exists()
    result = run(
        paths, automatic.BASIS, resume=resume, device=torch.device("cpu"), console=console, choose=automatic.choose
    )
    return open_release(RELEASES / result.release_id)


def current_release() -> Release | None:
    """Return the release of an earlier run, if there is one and it is intact."""
    try:
        return open_current_release(RELEASES)
    except ReleaseError:
        return None


@contextmanager
def step(screen: Console, log: TextIO, name: str) -> Iterator[None]:
    """Show that a step is under way and how long it took; what it prints itself goes to the log."""
    started = time.monotonic()
    log.write(f"\n--- {name}\n")
    with screen.status(f"{name} ..."), redirected(log):
        yield
    screen.print(f"{name:<16}[dim]{time.monotonic() - started:6.1f} s[/dim]")


@contextmanager
def redirected(log: TextIO) -> Iterator[None]:
    """Send to the log what is printed without saying where."""
    with redirect_stdout(log), redirect_stderr(log):
        yield


if __name__ == "__main__":
    sys.exit(main())
