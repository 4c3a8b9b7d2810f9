"""A log in which two groups of users have disjoint tastes: what there is to learn is obvious."""

import csv
from pathlib import Path

import numpy as np

from winnow.history import RaggedRows, WatchHistories

GROUP_SIZE = 40
ITEMS_PER_GROUP = 20
WATCHES_PER_USER = 12


def planted_histories(seed: int = 0) -> WatchHistories:
    """Users of even number watch items of even row, the others those of odd row, none twice, one a second."""
    rng = np.random.default_rng(seed)
    lists = RaggedRows.from_lists(
        [
            2 * rng.permutation(ITEMS_PER_GROUP)[:WATCHES_PER_USER].astype(np.int32) + user % 2
            for user in range(2 * GROUP_SIZE)
        ]
    )
    watch_count = len(lists.rows)
    return WatchHistories.from_lengths(
        lists.rows,
        lists.lengths,
        np.ones(watch_count, dtype=np.float32),
        np.tile(np.arange(WATCHES_PER_USER), len(lists)),
    )


def planted_successions(seed: int, *, share: float, user_count: int = 120, length: int = 12) -> WatchHistories:
    """Each item has one successor, which is the next watch with probability `share`; the others are drawn uniformly."""
    rng = np.random.default_rng(seed)
    item_count = 2 * ITEMS_PER_GROUP
    successors = np.roll(rng.permutation(item_count), 1)
    following = np.empty(item_count, dtype=np.int64)
    following[np.roll(successors, 1)] = successors
    lists = []
    for _ in range(user_count):
        watched = [int(rng.integers(item_count))]
        while len(watched) < length:
            unseen = np.setdiff1d(np.arange(item_count), watched)
            planted = int(following[watched[-1]])
            follows = rng.random() < share and planted in unseen
            watched.append(planted if follows else int(rng.choice(unseen)))
        lists.append(watched)
    rows = RaggedRows.from_lists(lists)
    times = np.tile(np.arange(length), user_count)
    return WatchHistories.from_lengths(rows.rows, rows.lengths, np.ones(len(rows.rows), dtype=np.float32), times)


def write_planted_log(path: Path) -> None:
    """The same as a CSV file."""
    histories = planted_histories()
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user_id", "item_id", "timestamp"])
        for user in range(len(histories)):
            for second, row in enumerate(histories[user].tolist()):
                writer.writerow([f"user {user}", f"item {row}", second])


def write_planted_impressions(directory: Path) -> None:
    """Write impressions.csv, and items.csv, for the log above: a day later, every user is shown 12 items, one an hour.

    What is shown is of the user's taste or is not, and is clicked then only; the higher its row, the longer the watch.
    """
    rng = np.random.default_rng(1)
    with (directory / "impressions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user_id", "item_id", "timestamp", "clicked", "watch_seconds"])
        for hour in range(12):
            for user in range(2 * GROUP_SIZE):
                row = int(rng.integers(2 * ITEMS_PER_GROUP))
                clicked = row % 2 == user % 2
                writer.writerow([f"user {user}", f"item {row}", 86_400 + 3600 * hour + user, clicked, 1 + row])
    with (directory / "items.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["item_id", "title", "author", "category", "uploaded", "duration_seconds"])
        for row in range(2 * ITEMS_PER_GROUP):
            writer.writerow([f"item {row}", f"Title {row}", f"author {row % 8}", row % 2, -row * 3600, 1 + row])
