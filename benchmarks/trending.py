"""Do items that trend go on being watched more than usual? Measured on a log, at several moments of it.

    python -m benchmarks.trending data/movielens-1m/interactions.parquet

At each moment, the trending items of the watches before it are listed. Their share of the watches of the following week
is compared with their share of all watches before.
"""

import argparse
from pathlib import Path

import numpy as np

from winnow.history import WatchHistories
from winnow.logs.interactions import Interactions, read_interactions
from winnow.logs.trending import ADDED_WATCHES, WINDOW_SECONDS, trending_items

LISTED_ITEMS = 20
# Moments, as the share of all watches before them.
MOMENTS = {"validation": np.linspace(0.3, 0.6, 13), "test": np.linspace(0.65, 0.95, 13)}


def lift(log: Interactions, moment: float, added_watches: float) -> tuple[float, float]:
    """Return the share of the following week's watches over the usual share, and the former alone."""
    watches = log.histories
    now = int(np.quantile(watches.timestamps, moment))
    past = watches.timestamps <= now
    following = ~past & (watches.timestamps <= now + WINDOW_SECONDS)
    earlier = WatchHistories.from_lengths(
        watches.rows[past], np.array([past.sum()]), timestamps=watches.timestamps[past]
    )
    listed = trending_items(earlier, len(log.vocabulary), added_watches).rows[:LISTED_ITEMS]
    usual, next_week = (float(np.isin(rows, listed).mean()) for rows in (earlier.rows, watches.rows[following]))
    return next_week / usual, next_week


def main() -> None:
    """Print a table with a row for each part of the log and number of added watches."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("interactions", type=Path)
    log = read_interactions(parser.parse_args().interactions)
    print("| moments | added watches | times the usual share: mean, least | share of the following week |")
    print("|---|---|---|---|")
    for name, moments in MOMENTS.items():
        for added_watches in sorted({1, 3, 30, 100, ADDED_WATCHES}):
            lifts, shares = zip(*(lift(log, moment, added_watches) for moment in moments), strict=True)
            print(f"| {name} | {added_watches} | {np.mean(lifts):.2f}, {min(lifts):.2f} | {np.mean(shares):.2%} |")


if __name__ == "__main__":
    main()
