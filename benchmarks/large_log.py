"""Resident memory of splitting a log that is larger than memory, and of the first steps of training on it.

    TMPDIR=/a/directory/on/a/disk python -m benchmarks.large_log --watches 100000000

The histories are drawn at random and written as reading a log in parts writes them.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks.processes import memory_mebibytes
from winnow.history import WatchHistories
from winnow.logs.blocks import slices
from winnow.logs.part_histories import Watches
from winnow.logs.split import LogSplit
from winnow.logs.statistics import LogStatistics
from winnow.training.plan import describe, plan_on_watches
from winnow.training.presets import DEMO
from winnow.training.run_context import RunContext

ITEM_COUNT = 200_000
MEAN_LENGTH = 20
FIRST_SECOND = 1_500_000_000


def draw(watch_count: int, *, seed: int) -> WatchHistories:
    """Return histories of about `watch_count` watches together, on disk."""
    rng = np.random.default_rng(seed)
    lengths = rng.geometric(1 / MEAN_LENGTH, watch_count // MEAN_LENGTH)
    watches = Watches.empty()
    for block in slices(int(lengths.sum())):
        count = block.stop - block.start
        rows = (ITEM_COUNT * rng.random(count) ** 3).astype(np.int32)
        weights = rng.integers(1, 6, count).astype(np.float32)
        times = FIRST_SECOND + np.arange(block.start, block.stop)
        watches.append(WatchHistories.of_one(rows, weights, times))
    return watches.histories(lengths)


def report(what: str) -> None:
    """Print the CPU time so far and the memory: the most so far, and how much of today's is no mapped file."""
    found = memory_mebibytes()
    most, now, own = (found[name] / 1024 for name in ("VmHWM", "VmRSS", "RssAnon"))
    print(f"{what}: {time.process_time():.0f} s of CPU; {most:.2f} GiB at most, {now:.2f} now, {own:.2f} of it own")


def main() -> None:
    """Split, look at the training part, and train a few steps of both networks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--watches", type=int, default=100_000_000)
    histories = draw(parser.parse_args().watches, seed=1)
    report(f"{len(histories.rows):,} watches of {len(histories):,} users")
    split = LogSplit.leave_last_out(histories)
    report("split")
    LogStatistics.of(split.training, ITEM_COUNT)
    report("statistics")
    context = RunContext(seed=1, data="", checkpoints=Path(), console=Console())
    print(describe(plan_on_watches(split, ITEM_COUNT, (), DEMO, context)))
    report("the first steps of both networks")


if __name__ == "__main__":
    main()
