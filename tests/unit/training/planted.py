"""A log in which two groups of users have disjoint tastes: what there is to learn is obvious."""

import csv
from pathlib import Path

import numpy as np

from winnow.history import RaggedRows

GROUP_SIZE = 40
ITEMS_PER_GROUP = 20
WATCHES_PER_USER = 12


def planted_histories(seed: int = 0) -> RaggedRows:
    """Users of even number watch items of even row, the others those of odd row, none of them twice."""
    rng = np.random.default_rng(seed)
    return RaggedRows.from_lists(
        [
            2 * rng.permutation(ITEMS_PER_GROUP)[:WATCHES_PER_USER].astype(np.int32) + user % 2
            for user in range(2 * GROUP_SIZE)
        ]
    )


def write_planted_log(path: Path) -> None:
    """The same as a CSV file."""
    histories = planted_histories()
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user_id", "item_id", "timestamp"])
        for user in range(len(histories)):
            for second, row in enumerate(histories[user].tolist()):
                writer.writerow([f"user {user}", f"item {row}", second])
