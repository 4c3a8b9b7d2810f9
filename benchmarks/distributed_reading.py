"""Memory of reading a log in one process, and in several of which each reads its own parts.

    python -m benchmarks.distributed_reading

Prints for each process how much resident memory it has had at most, before reading and after the split.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.planted_logs import STREAM, write_stream
from winnow.logs.interactions import EVERY_ITEM, read_interactions
from winnow.logs.part_writer import write_parts
from winnow.logs.split import LogSplit
from winnow.serving.local_stack import free_port
from winnow.training.distributed.processes import joined_processes, launched
from winnow.training.distributed.read_own_part import read_own_part


def peak_mebibytes() -> int:
    """Return the most resident memory that this program has had; `resource` counts that of what started it, too."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) // 1024


def read(log: Path) -> None:
    """Read and split a log, or this process's part of it, as training does."""
    if launched():
        with joined_processes(torch.device("cpu")) as processes:
            before = peak_mebibytes()
            watch_count = len(
                read_own_part(log, processes, vocabulary_size=EVERY_ITEM, min_item_count=1).split.training.rows
            )
    else:
        before = peak_mebibytes()
        interactions = read_interactions(log)
        watch_count = len(LogSplit.leave_last_out(interactions.histories).training.rows)
    print(f"{before:,} and {peak_mebibytes():,} MiB, {watch_count:,} training watches")


def start(log: Path, count: int) -> list[str]:
    """Read a log in so many processes; return what each prints."""
    command = [sys.executable, "-m", "benchmarks.distributed_reading", "--read", str(log)]
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port("127.0.0.1"))}
    environment |= {"WORLD_SIZE": str(count)} if count > 1 else {}
    of_ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
    processes = [
        subprocess.Popen(command, env=environment | of_rank, stdout=subprocess.PIPE, text=True) for of_rank in of_ranks
    ]
    return [process.communicate()[0].strip() for process in processes]


def main() -> None:
    """Print one line for each way of reading."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--watches", type=int, default=4_000_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--read", type=Path, help="read this log, and write none")
    options = parser.parse_args()
    if options.read:
        read(options.read)
        return
    with tempfile.TemporaryDirectory() as name:
        stream = replace(STREAM, user_count=200_000, item_count=20_000, taste_count=100, watches_per_file=10**9)
        write_stream(stream, Path(name) / "stream", watch_count=options.watches, seed=1)
        [file] = (Path(name) / "stream").iterdir()
        parts = Path(name) / "log.parts"
        write_parts([file], parts)
        for log, count in ((file, 1), (parts, 1), (parts, options.processes)):
            print(f"{count} x {log.name}: {'; '.join(start(log, count))}", flush=True)


if __name__ == "__main__":
    main()
