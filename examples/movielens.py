"""The whole loop on MovieLens-1M: fetch, train, release, serve, recommend. `make demo` runs it.

A second run reuses the data and the release of the first one.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from winnow.client import RecommendationRequest, Watch, WinnowClient
from winnow.commands.data import movielens_1m
from winnow.commands.explain import print_explanation
from winnow.commands.recommend import print_answer
from winnow.evaluation.figures_table import figures_table
from winnow.logs.datasets.movielens import DataSet, data_set_in
from winnow.logs.interactions import read_interactions
from winnow.release.reader import Release, ReleaseError, current_release_id, open_release
from winnow.serving.local_stack import LocalStack, StackSettings
from winnow.training import automatic

DATA = Path("data")
RELEASES = Path("releases")
# Any users would do; these are spread over the log, so that their histories differ.
USERS = ("1", "1000", "5000")
EXPLAINED_WATCHES = 5
FILTER = "genres:Comedy AND year >= 1990"
MOST_OF_A_GENRE = 2


def main() -> int:
    """Run every step and return the exit status."""
    console = Console(highlight=False)
    started = time.monotonic()
    with step(console, "Data"):
        movielens_1m(DATA)
        data = data_set_in(DATA)
    with step(console, "Release"):
        release = current_release() or train(data, console)
        console.print(f"release {release.release_id}, {release.manifest.item_count:,} items")
    settings = StackSettings(
        releases=RELEASES, gateway_port=0, candidate_port=0, ranking_port=0, flags={"all": ["--log-level=warning"]}
    )
    with step(console, "Three services"), LocalStack(settings) as stack:
        console.print(f"candidate service, ranking service and gateway are healthy; asking {stack.gateway_target}")
        with WinnowClient(stack.gateway_target, timeout_seconds=5) as winnow:
            winnow.recommend([])  # the first call has to connect
            log = read_interactions(data.interactions, vocabulary_size=10_000, min_item_count=1)
            for user in USERS:
                watches = log.of_user(user)
                # With the rating and the time of each watch, as the networks were trained and measured.
                history = list(map(Watch, watches.item_ids, watches.weights, watches.timestamps))
                answer = winnow.recommend(history, count=10)
                found = winnow.items([*watches.item_ids, *(item.item_id for item in answer.items)])
                console.print(f"\n[bold]User {user}[/bold]")
                print_answer(console, watches.item_ids, answer, found.by_id)
            comedies = winnow.recommend(history, count=5, filter=FILTER)
            titles = winnow.items(item.item_id for item in comedies.items).by_id.values()
            console.print(f"\nUser {user}, {FILTER}: {', '.join(item.title for item in titles)}", markup=False)
            capped = winnow.recommend(history, count=5, caps={"genres": MOST_OF_A_GENRE})
            titles = winnow.items(item.item_id for item in capped.items).by_id.values()
            listed = ", ".join(item.title for item in titles)
            console.print(f"User {user}, at most {MOST_OF_A_GENRE} films of a genre: {listed}", markup=False)
            explained = comedies.items[0].item_id
            why = winnow.explain(
                RecommendationRequest(history, filter=FILTER), explained, watch_count=EXPLAINED_WATCHES
            )
            shown = winnow.items([explained, *(watch.item_id for watch in why.contributions)]).by_id
            console.print(f"\n[bold]Why that comedy for user {user}[/bold]")
            print_explanation(console, explained, why, shown)
    for part, figures in release.manifest.figures.items():
        console.print(figures_table(f"held-out {part}: leave-last-out, all items ranked, seen filtered", figures))
    console.print(f"Done in {time.monotonic() - started:.0f} seconds. `winnow serve` keeps the services running.")
    return 0


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
        return open_release(RELEASES / current_release_id(RELEASES))
    except ReleaseError:
        return None


@contextmanager
def step(console: Console, name: str) -> Iterator[None]:
    """Print the name of a step and how long it took."""
    console.rule(name, align="left")
    started = time.monotonic()
    yield
    console.print(f"[dim]{time.monotonic() - started:.1f} seconds[/dim]")


if __name__ == "__main__":
    sys.exit(main())
