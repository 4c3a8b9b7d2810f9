"""How much memory training takes in one process and in several: `python -m benchmarks.distributed_training`."""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

SETTINGS = """
min_item_count = 1
[candidate]
softmax = "sampled"
negative_count = 512
embedding_dim = {dim}
hidden_dim = {dim}
epochs = 1
[ranking]
embedding_dim = {dim}
epochs = 1
examples_per_user = 1
neighbours = false
"""


def write_log(path: Path, *, items: int, users: int, watches_per_user: int) -> None:
    """Write a log in which every item is watched, some much more often than others."""
    rng = np.random.default_rng(0)
    count = users * watches_per_user
    rows = np.concatenate([np.arange(items), (items * rng.random(max(count - items, 0)) ** 3).astype(np.int64)])
    frame = pl.DataFrame(
        {"user_id": np.arange(len(rows)) % users, "item_id": rng.permutation(rows), "timestamp": np.arange(len(rows))}
    )
    frame.write_parquet(path)


def train(directory: Path, process_count: int) -> tuple[int, list[int]]:
    """Train, by torchrun unless it is one process.

    Return the peak memory of the largest process until the release is there, and that of each until training ends, in
    MiB.
    """
    launcher = [sys.executable, "-m"]
    if process_count > 1:
        launcher += ["torch.distributed.run", "--nproc-per-node", str(process_count), "-m"]
    command = [
        *launcher, "winnow", "train", "--interactions", str(directory / "log.parquet"), "--preset", "demo",
        "--settings", str(directory / "settings.toml"), "--publish", "always", "--threads", "1",
        "--releases", str(directory / f"{process_count}"), "--checkpoints", str(directory / f"{process_count}-state"),
    ]  # fmt: skip
    output = directory / f"{process_count}.log"
    with output.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
        _, status, usage = os.wait4(process.pid, 0)
    text = output.read_text()
    if status:
        raise SystemExit(text)
    print(*(line for line in text.splitlines() if "epoch 1 of 1" in line), sep="\n")
    peaks = re.findall(r"(\d[\d,]*) MiB", text)
    return usage.ru_maxrss // 1024, [int(peak.replace(",", "")) for peak in peaks]


def main() -> None:
    """Print one line for each number of processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=130_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--users", type=int, default=150)
    parser.add_argument("--watches-per-user", type=int, default=900)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_log(
            directory / "log.parquet",
            items=options.items,
            users=options.users,
            watches_per_user=options.watches_per_user,
        )
        (directory / "settings.toml").write_text(SETTINGS.format(dim=options.dim))
        for process_count in options.processes:
            overall, of_each = train(directory, process_count)
            print(f"{process_count} processes: at the end of training {of_each or '-'} MiB, in all {overall} MiB")


if __name__ == "__main__":
    main()
