"""The loop on a eighth of MovieLens-1M, replayed in time order: serve, log, retrain, swap. `make demo-loop` runs it.

A first release learns from the earliest ratings. Then the ratings of three weeks at a time are sent to a gateway, as
they came; `winnow retrain` makes the next release from what the gateway has stored, and the services take it up. Before
some of the ratings, the gateway is asked for recommendations, and so is another one that keeps the first release.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console

from winnow.client import Event, WinnowClient
from winnow.commands.data import movielens_1m
from winnow.logs.datasets.movielens import DataSet, data_set_in
from winnow.release.reader import current_release_id
from winnow.serving.local_stack import LocalStack, StackSettings

DATA = Path("data")
RUN = Path("runs/demo-loop")
STORE, ANSWER_LOG, RELEASES, FIRST_RELEASE = RUN / "users.db", RUN / "answers", RUN / "releases", RUN / "first-release"
SETTINGS = Path(__file__).with_name("loop.toml")
# Most users of MovieLens-1M came in 2000.
FIRST_MOMENT = datetime(2000, 7, 31, tzinfo=UTC)
PERIOD_SECONDS = 3 * 7 * 86_400
PERIOD_COUNT = 7
# Every eighth user, so that the example takes minutes.
USER_STEP = 8
# Of each period, at most.
ASKED_USERS = 100
TIMEOUT_SECONDS = 30
LIST_LENGTH = 20
SEED = 1
KEPT = 3

Row = tuple[str, str, int, float]


@dataclass(kw_only=True)
class Period:
    """Some weeks of the log, and what was recommended in them."""

    start: datetime
    event_count: int = 0
    retrained: list[float] = field(default_factory=list)
    """For each request, which part of the list the user rated later in the period."""
    first: list[float] = field(default_factory=list)
    """Likewise, by the first release."""
    published: bool | None = None
    """Whether the release that was trained before it became current; None where none was."""


def main() -> int:
    """Run every step and return the exit status."""
    console = Console(highlight=False)
    started = time.monotonic()
    movielens_1m(DATA)
    data = data_set_in(DATA)
    shutil.rmtree(RUN, ignore_errors=True)
    RUN.mkdir(parents=True)
    log = pl.read_parquet(data.interactions).filter(pl.col("user_id").cast(pl.Int64) % USER_STEP == 0)
    log = log.sort("timestamp", "user_id", maintain_order=True)
    first = int(FIRST_MOMENT.timestamp())
    console.rule("The first release", align="left")
    train_first(data, log.filter(pl.col("timestamp") < first), console)
    with (
        running(RELEASES, logging=True) as live,
        running(FIRST_RELEASE, logging=False) as frozen,
        WinnowClient(live.gateway_target, timeout_seconds=TIMEOUT_SECONDS) as gateway,
        WinnowClient(frozen.gateway_target, timeout_seconds=TIMEOUT_SECONDS) as other,
    ):
        send(gateway, log.filter(pl.col("timestamp") < first).rows(), 0, {})
        periods = list(replay(log, first, data, gateway, other, console))
    winnow("export-log", *stored(), "--output", str(RUN / "export"), console=console)
    report(periods, console)
    console.print(f"Done in {time.monotonic() - started:.0f} seconds; {RUN} has the table, the plot and all releases.")
    return 0


def train_first(data: DataSet, log: pl.DataFrame, console: Console) -> None:
    """Train on the earliest ratings, and copy the release to where nothing replaces it."""
    log.write_parquet(RUN / "first.parquet")
    winnow(
        "train", "--interactions", str(RUN / "first.parquet"), "--items", str(data.items), "--settings", str(SETTINGS),
        "--releases", str(RELEASES), "--checkpoints", str(RUN / "checkpoints"), "--publish", "always",
        console=console,
    )  # fmt: skip
    shutil.copytree(RELEASES, FIRST_RELEASE)


def replay(
    log: pl.DataFrame, first: int, data: DataSet, gateway: WinnowClient, other: WinnowClient, console: Console
) -> Iterator[Period]:
    """Replay one period after the other, and retrain between them."""
    sent_count = log.filter(pl.col("timestamp") < first).height
    for number in range(PERIOD_COUNT):
        start = first + number * PERIOD_SECONDS
        period = Period(start=datetime.fromtimestamp(start, UTC))
        console.rule(f"{period.start:%d %B %Y}, {number + 1} of {PERIOD_COUNT}", align="left")
        if number:
            period.published = retrain(data, gateway, console)
        within = pl.col("timestamp").is_between(start, start + PERIOD_SECONDS, closed="left")
        began = time.monotonic()
        play(log, log.filter(within), sent_count, period, gateway, other)
        sent_count += period.event_count
        console.print(
            f"{period.event_count:,} ratings sent, {len(period.first)} requests, in "
            f"{time.monotonic() - began:.0f} s; precision@{LIST_LENGTH}: {np.mean(period.retrained):.3f}, "
            f"first release {np.mean(period.first):.3f}"
        )
        yield period


def play(
    log: pl.DataFrame, events: pl.DataFrame, sent_count: int, period: Period, gateway: WinnowClient, other: WinnowClient
) -> None:
    """Send the ratings of a period in order. Once for some users, ask for recommendations before one of them.

    What a user then rates of the list cites it.
    """
    rows: list[Row] = events.rows()
    asked = choose(rows, set(log.slice(0, sent_count)["user_id"].unique()))
    recommended: dict[tuple[str, str], str] = {}
    begin = 0
    for at, (user_id, _, seconds, _) in enumerate(rows):
        if at not in asked:
            continue
        send(gateway, rows[begin:at], sent_count + begin, recommended)
        begin = at
        later = {row[1] for row in rows[at:] if row[0] == user_id}
        for client, precisions in ((other, period.first), (gateway, period.retrained)):
            answer = client.recommend(user_id=user_id, count=LIST_LENGTH, request_time=seconds, require_ranked=True)
            listed = [item.item_id for item in answer.items]
            precisions.append(len(later.intersection(listed)) / LIST_LENGTH)
        recommended |= {(user_id, item_id): answer.recommendation_id for item_id in listed}
    send(gateway, rows[begin:], sent_count + begin, recommended)
    period.event_count = len(rows)


def choose(rows: Sequence[Row], known: set[str]) -> set[int]:
    """Return the positions of one rating of each of some users who rate much: an early one, but not the first ever."""
    rng = np.random.default_rng(SEED)
    of_user: dict[str, list[int]] = {}
    for at, (user_id, *_) in enumerate(rows):
        of_user.setdefault(user_id, []).append(at)
    candidates = [
        positions[0 if user_id in known else 1 : len(positions) // 2]
        for user_id, positions in of_user.items()
        if len(positions) >= LIST_LENGTH
    ]
    chosen = rng.permutation(len(candidates))[:ASKED_USERS]
    return {int(rng.choice(candidates[user])) for user in chosen.tolist()}


def send(
    gateway: WinnowClient, rows: Sequence[Row], first_number: int, recommended: Mapping[tuple[str, str], str]
) -> None:
    """Write ratings as watches, with what they cite. Their numbers, in the order of the log, are the event ids."""
    gateway.write_events(
        Event(
            user_id=user_id,
            item_id=item_id,
            time=seconds,
            weight=weight,
            recommendation_id=recommended.get((user_id, item_id), ""),
            event_id=f"{number:08}",
        )
        for number, (user_id, item_id, seconds, weight) in enumerate(rows, start=first_number)
    )


def retrain(data: DataSet, gateway: WinnowClient, console: Console) -> bool:
    """Retrain, and wait until the services have taken up what was published."""
    status = winnow(
        "retrain", *stored(), "--items", str(data.items), "--releases", str(RELEASES), "--work", str(RUN / "retrain"),
        "--candidate-epochs", "3",
        console=console,
    )  # fmt: skip
    current = current_release_id(RELEASES)
    while gateway.recommend([]).release_id != current:
        time.sleep(0.2)
    return status != KEPT


def stored() -> list[str]:
    """What `winnow export-log` and `winnow retrain` read."""
    return ["--users-store", str(STORE), "--answer-log", str(ANSWER_LOG)]


def winnow(*arguments: str, console: Console) -> int:
    """Run a command, show what it prints, and return its exit status, which is 0 or KEPT."""
    console.print(f"[dim]winnow {' '.join(arguments)}[/dim]", soft_wrap=True)
    status = subprocess.run([sys.executable, "-m", "winnow.cli", *arguments], check=False).returncode
    if status not in (0, KEPT):
        raise SystemExit(status)
    return status


def running(releases: Path, *, logging: bool) -> LocalStack:
    """The three services. They share the store of users, and one gateway logs what it answers."""
    gateway = [f"--users-store={STORE}", "--users-max-events=2000", f"--users-timeout-seconds={TIMEOUT_SECONDS}"]
    if logging:
        gateway += [f"--answer-log={ANSWER_LOG}", "--answer-log-share=1"]
    return LocalStack(
        StackSettings(
            releases=releases,
            start_timeout_seconds=300,
            flags={"all": ["--log-level=warning", f"--max-timeout-seconds={TIMEOUT_SECONDS}"], "gateway": gateway},
        )
    )


def report(periods: Sequence[Period], console: Console) -> None:
    """Write the figures, a table and a plot."""
    (RUN / "quality.json").write_text(json.dumps([asdict(period) for period in periods], default=str, indent=1) + "\n")
    lines = [
        f"| from | ratings | requests | retrained: precision@{LIST_LENGTH} | first release | difference |",
        "|---|---|---|---|---|---|",
    ]
    for period in periods:
        gain, noise = difference([period])
        kept = " (kept)" if period.published is False else ""
        lines.append(
            f"| {period.start:%Y-%m-%d} | {period.event_count:,} | {len(period.first):,} "
            f"| {np.mean(period.retrained):.3f}{kept} | {np.mean(period.first):.3f} "
            f"| {gain:+.3f} ± {noise:.3f} |"
        )
    gain, noise = difference(periods[1:])
    lines.append(f"| after the first retraining | | | | | {gain:+.3f} ± {noise:.3f} |")
    (RUN / "quality.md").write_text("\n".join(lines) + "\n")
    console.print("\n".join(lines), soft_wrap=True)
    plot(periods, RUN / "quality.png")


def difference(periods: Sequence[Period]) -> tuple[float, float]:
    """How much more users rated of the lists with retraining, and the half width of the 95 % interval, by request."""
    gains = np.array(
        [
            retrained - first
            for period in periods
            for retrained, first in zip(period.retrained, period.first, strict=True)
        ]
    )
    return float(gains.mean()), float(1.96 * gains.std() / np.sqrt(len(gains)))


def plot(periods: Sequence[Period], path: Path) -> None:
    """Draw the precision of both over time, with 95 % intervals."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3.5))
    starts = np.arange(len(periods))
    for name, colour, values in (
        ("retrained every three weeks", "tab:blue", [period.retrained for period in periods]),
        ("never retrained", "tab:orange", [period.first for period in periods]),
    ):
        rates = np.array([np.mean(of_period) for of_period in values])
        noise = [1.96 * np.std(of_period) / np.sqrt(len(of_period)) for of_period in values]
        axes.errorbar(starts, rates, yerr=noise, marker="o", capsize=3, color=colour, label=name)
    axes.set_xticks(starts, [f"{period.start:%d %b}" for period in periods])
    axes.set_xlabel("three weeks of 2000 from")
    axes.set_ylabel(f"precision@{LIST_LENGTH}")
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
