"""Logs unlike MovieLens, generated from a seed: sparse ones with successions, and some without an order.

    python -m benchmarks.planted_logs reviews data/reviews.parquet
    python -m benchmarks.planted_logs purchases data/purchases.parquet
    python -m benchmarks.planted_logs plays data/plays.parquet
    python -m benchmarks.planted_logs games data/games.parquet
    python -m benchmarks.planted_logs large data/large.parquet
    python -m benchmarks.planted_logs stream data/stream --watches 100000000

The last one is larger than memory: a folder of Parquet files, in the order of time.

Shape legend: I items, N events.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

FIRST_SECOND, DAY_SECONDS = 1_500_000_000, 86_400
TASTES_PER_USER = 2


@dataclass(frozen=True, kw_only=True)
class PlantedLog:
    """How a log is generated: what a user takes next follows an earlier item, is of the user's taste, or is popular."""

    user_count: int
    item_count: int
    taste_count: int
    # Mean number of events of a user, and the smallest one.
    mean_length: float
    smallest_length: int
    # Popularity is proportional to rank to the power of minus this, among all items and within a taste.
    popularity_exponent: float
    # Shares of the events: a successor of one of the latest three items, an item of a taste. The others are any item.
    succession_share: float
    taste_share: float
    successors_per_item: int
    # Whether the log says in which order the events were.
    ordered: bool
    # Standard deviation of the logarithm of the length: a few users have most of the events. 0 is a geometric
    # distribution instead.
    length_spread: float = 0.0


REVIEWS = PlantedLog(
    user_count=22_000,
    item_count=12_000,
    taste_count=300,
    mean_length=9.0,
    smallest_length=5,
    popularity_exponent=0.8,
    succession_share=0.2,
    taste_share=0.4,
    successors_per_item=8,
    ordered=True,
)
PLAYS = PlantedLog(
    user_count=11_000,
    item_count=1_600,
    taste_count=25,
    mean_length=6.1,
    smallest_length=3,
    popularity_exponent=0.9,
    succession_share=0.0,
    taste_share=0.75,
    successors_per_item=1,
    ordered=False,
)
REVIEWS_QUARTER = replace(REVIEWS, user_count=5_500, item_count=3_000, taste_count=75)
# What came last says more than what is watched by the same users: succession-knn is ahead of EASE.
PURCHASES = replace(
    REVIEWS_QUARTER, popularity_exponent=0.5, succession_share=0.3, taste_share=0.3, successors_per_item=12
)
# A few very popular items, items that belong together, and a few users who have most of the events.
GAMES = replace(
    PLAYS,
    taste_count=60,
    mean_length=6.6,
    smallest_length=1,
    length_spread=1.5,
    popularity_exponent=1.4,
    succession_share=0.6,
    taste_share=0.1,
    successors_per_item=5,
)
LARGE = replace(REVIEWS, user_count=52_000, item_count=57_000, taste_count=1_000, mean_length=15.0)
LOGS = {
    "reviews": REVIEWS,
    "reviews-quarter": REVIEWS_QUARTER,
    "purchases": PURCHASES,
    "plays": PLAYS,
    "games": GAMES,
    "large": LARGE,
}


@dataclass(frozen=True, kw_only=True)
class PlantedStream:
    """A log of any length: users come in any order, and watch what is of their two tastes, or any item."""

    user_count: int = 5_000_000
    item_count: int = 1_000_000
    taste_count: int = 5_000
    taste_share: float = 0.7
    # Frequencies are proportional to rank to the power of minus these.
    user_exponent: float = 1 / 3
    item_exponent: float = 0.7
    watches_per_file: int = 1_000_000


STREAM = PlantedStream()


def write_stream(log: PlantedStream, folder: Path, *, watch_count: int, seed: int) -> None:
    """Write files of user_id, item_id, timestamp and weight, one after the other."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for number, start in enumerate(range(0, watch_count, log.watches_per_file)):
        count = min(log.watches_per_file, watch_count - start)
        users_N = _ranks(log.user_count, log.user_exponent, count, rng)
        tastes_N = (users_N * 7919 + rng.integers(0, TASTES_PER_USER, count)) % log.taste_count
        of_taste_N = tastes_N + log.taste_count * _ranks(
            log.item_count // log.taste_count, log.item_exponent, count, rng
        )
        any_N = _ranks(log.item_count, log.item_exponent, count, rng)
        items_N = np.where(rng.random(count) < log.taste_share, of_taste_N, any_N)
        seconds_N = FIRST_SECOND + start + np.arange(count)
        frame = pl.DataFrame({"user": users_N, "item": items_N, "timestamp": seconds_N})
        frame.select(
            pl.format("u{}", "user").alias("user_id"),
            pl.format("i{}", "item").alias("item_id"),
            "timestamp",
            pl.Series("weight", rng.integers(1, 6, count), dtype=pl.Int8),
        ).write_parquet(folder / f"{number:05d}.parquet")


def _ranks(count: int, exponent: float, draws: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw ranks below `count`, the lower the more often."""
    ranks: NDArray[np.int64] = (count * rng.random(draws) ** (1 / (1 - exponent))).astype(np.int64)
    return ranks


def generate(log: PlantedLog, *, seed: int) -> pl.DataFrame:
    """Return user_id, item_id, timestamp and weight of every event; a user has no item twice.

    Where the order is not known, all timestamps are equal, and events are in random order.
    """
    rng = np.random.default_rng(seed)
    tastes_I = rng.integers(0, log.taste_count, log.item_count)
    by_taste = [np.flatnonzero(tastes_I == taste) for taste in range(log.taste_count)]
    successors = _successors(log, tastes_I, by_taste, rng)
    everything = _Drawer(np.arange(log.item_count), log.popularity_exponent, rng)
    of_tastes = [_Drawer(items, log.popularity_exponent, rng) for items in by_taste]
    users, items, times = [], [], []
    for user, length in enumerate(_lengths(log, rng).tolist()):
        taken = _history(log, successors, everything, of_tastes, length, rng)
        users.append(np.full(len(taken), user))
        items.append(np.array(rng.permutation(taken) if not log.ordered else taken))
        gaps = rng.integers(1, 30 * DAY_SECONDS, len(taken)) * int(log.ordered)
        times.append(FIRST_SECOND + np.cumsum(gaps))
    count = sum(map(len, users))
    return pl.DataFrame(
        {
            "user_id": [f"u{user}" for user in np.concatenate(users).tolist()],
            "item_id": [f"i{item}" for item in np.concatenate(items).tolist()],
            "timestamp": np.concatenate(times).astype(np.int64),
            "weight": rng.lognormal(1.0, 1.0, count).astype(np.float32) if not log.ordered else np.ones(count),
        }
    )


def _lengths(log: PlantedLog, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw the number of events of each user."""
    if not log.length_spread:
        return rng.geometric(1 / (log.mean_length - log.smallest_length + 1), log.user_count) - 1 + log.smallest_length
    lengths = rng.lognormal(np.log(log.mean_length) - log.length_spread**2 / 2, log.length_spread, log.user_count)
    return lengths.clip(log.smallest_length, log.item_count / 4).astype(np.int64)


def _successors(
    log: PlantedLog, tastes_I: NDArray[np.int64], by_taste: list[NDArray[np.int64]], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw the successors of each item among the items of its taste."""
    found = np.empty((log.item_count, log.successors_per_item), dtype=np.int64)
    for taste, items in enumerate(by_taste):
        of_taste = tastes_I == taste
        found[of_taste] = rng.choice(items, (int(of_taste.sum()), log.successors_per_item)) if len(items) else 0
    return found


def _history(
    log: PlantedLog,
    successors: NDArray[np.int64],
    everything: "_Drawer",
    of_tastes: list["_Drawer"],
    length: int,
    rng: np.random.Generator,
) -> list[int]:
    tastes = rng.integers(0, log.taste_count, TASTES_PER_USER).tolist()
    taken: list[int] = []
    kinds = rng.random(4 * length)
    for kind in kinds.tolist():
        if taken and kind < log.succession_share:
            latest = taken[-1 - min(int(rng.geometric(0.6)) - 1, len(taken) - 1, 2)]
            # The first successors are the likeliest.
            item = int(successors[latest, min(int(rng.geometric(0.4)) - 1, log.successors_per_item - 1)])
        elif kind < log.succession_share + log.taste_share:
            item = of_tastes[tastes[int(rng.random() < 0.3)]].draw()
        else:
            item = everything.draw()
        if item not in taken:
            taken.append(item)
        if len(taken) == length:
            break
    return taken


class _Drawer:
    """Draws items; the earlier in the list, the more often."""

    def __init__(self, items: NDArray[np.int64], exponent: float, rng: np.random.Generator) -> None:
        self._items = items if len(items) else np.zeros(1, dtype=np.int64)
        self._cumulative = np.cumsum(np.arange(1, len(self._items) + 1) ** -exponent)
        self._rng = rng

    def draw(self) -> int:
        place = int(np.searchsorted(self._cumulative, self._rng.random() * self._cumulative[-1]))
        return int(self._items[min(place, len(self._items) - 1)])


def main() -> None:
    """Write one of LOGS as a Parquet file, or a stream as a folder of files."""
    parser = argparse.ArgumentParser(description="Write a planted log as a Parquet file, or a stream as a folder.")
    parser.add_argument("name", choices=[*LOGS, "stream"])
    parser.add_argument("output", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--watches", type=int, default=100_000_000, help="of a stream")
    chosen = parser.parse_args()
    if chosen.name == "stream":
        write_stream(STREAM, chosen.output, watch_count=chosen.watches, seed=chosen.seed)
        return
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    generate(LOGS[chosen.name], seed=chosen.seed).write_parquet(chosen.output)


if __name__ == "__main__":
    main()
