"""How much memory training takes in one process and in several: `python -m benchmarks.distributed_training`."""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

SETTINGS = """
min_item_count = 1
precision = "float32"
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
# Printed when both networks are trained.
TRAINED = "of its correction of the candidates' order"


def write_log(path: Path, *, items: int, users: int, watches_per_user: int) -> None:
    """Write a log in which every item is watched, some much more often than others."""
    rng = np.random.default_rng(0)
    count = users * watches_per_user
    rows = np.concatenate([np.arange(items), (items * rng.random(max(count - items, 0)) ** 3).astype(np.int64)])
    frame = pl.DataFrame(
        {"user_id": np.arange(len(rows)) % users, "item_id": rng.permutation(rows), "timestamp": np.arange(len(rows))}
    )
    frame.write_parquet(path)


def train(directory: Path, process_count: int) -> list[int]:
    """Train, by torchrun unless it is one process; return the peak memory of each until both networks are trained, MiB.

    What follows is done by one process in any case, and not waited for.
    """
    launcher = [sys.executable, "-m"]
    if process_count > 1:
        launcher += ["torch.distributed.run", "--nproc-per-node", str(process_count), "-m"]
    command = [
        *launcher, "winnow", "train", "--interactions", str(directory / "log.parquet"), "--preset", "demo",
        "--settings", str(directory / "settings.toml"), "--publish", "always", "--threads", "1",
        "--releases", str(directory / f"{process_count}"), "--checkpoints", str(directory / f"{process_count}-state"),
    ]  # fmt: skip
    output, peak = directory / f"{process_count}.log", 0
    with output.open("w") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
        while TRAINED not in output.read_text() and process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak = max([peak, *(int(kibibytes) for kibibytes in re.findall(r"VmHWM:\s*(\d+) kB", status))])
            time.sleep(0.05)
        process.terminate()
    text = output.read_text()
    if TRAINED not in text:
        raise SystemExit(text)
    print(*(line for line in text.splitlines() if "epoch 1 of 1: loss" in line), sep="\n")
    peaks = [int(mebibytes.replace(",", "")) for mebibytes in re.findall(r"(\d[\d,]*) MiB", text)]
    return peaks or [peak // 1024]


def main() -> None:
    """Print one line for each number of processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=130_000)
    parser.add_argument("--dim", type=int, default=256)
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
            print(f"{process_count} processes: {train(directory, process_count)} MiB", flush=True)


if __name__ == "__main__":
    main()
