"""Training by real processes that talk by gloo: the same losses as in one process, whatever happens to one of them."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.engines.training_processes import (
    assert_same_training,
    command,
    settings_in,
    start_process,
    torchrun,
    train_alone,
    write_log,
)
from tests.unit.training.planted import write_planted_log
from winnow.logs.part_writer import write_parts
from winnow.release.reader import current_release_id
from winnow.serving.local_stack import free_port

pytestmark = pytest.mark.engines


@pytest.mark.parametrize(
    "candidate",
    [
        'negatives = "mixed"\nexamples_per_user = 5\n[candidate.options]\ntied_tables = true',
        'attribute_columns = ["group"]\n[candidate.options]\nexample_age = true\nattribute_dim = 4',
    ],
)
def test_two_processes_train_as_one_does_with_half_of_the_rows_each(candidate: str, tmp_path: Path) -> None:
    write_log(tmp_path)
    lines = [f"item {row},Title {row},{row % 2}" for row in range(40)]
    (tmp_path / "items.csv").write_text("\n".join(["item_id,title,group", *lines]) + "\n")
    settings_in(tmp_path, candidate)
    train_alone(tmp_path)
    result = torchrun(2, command(tmp_path, "together"))
    assert result.returncode == 0, result.stderr
    assert "2 processes: rows of each table 20, 20; watches 516, 444; peak memory" in result.stdout
    # Only the first process prints.
    assert result.stdout.count("candidate network, epoch 3 of 3") == 1
    assert_same_training(tmp_path, "together")


def test_where_one_process_dies_the_other_says_so_and_three_continue(tmp_path: Path) -> None:
    write_log(tmp_path)
    settings_in(tmp_path, epochs=12)
    train_alone(tmp_path)
    port = free_port("127.0.0.1")
    processes = [start_process(rank, 2, port, command(tmp_path, "together")) for rank in range(2)]
    try:
        deadline = time.monotonic() + 100
        while not list((tmp_path / "together-checkpoints").glob("candidate-[1-9]*.sharded")):
            assert all(process.poll() is None for process in processes)
            assert time.monotonic() < deadline
            time.sleep(0.01)
        processes[1].send_signal(signal.SIGKILL)
        _, error = processes[0].communicate(timeout=60)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert processes[0].returncode == 1
    assert re.search("process 0 of 2: another process of the training has ended", error)
    assert "Traceback" not in error
    assert not list((tmp_path / "together").iterdir())
    [checkpoint] = (tmp_path / "together-checkpoints").glob("candidate-*.sharded")
    finished = len(json.loads((checkpoint / "log.json").read_text())["log"]["epochs"])
    assert 1 <= finished < 12
    result = torchrun(3, command(tmp_path, "together", "--resume"))
    assert result.returncode == 0, result.stderr
    assert f"epoch {finished} of 12" not in result.stdout
    assert f"epoch {finished + 1} of 12" in result.stdout
    assert "3 processes: rows of each table 14, 14, 12; watches 420, 300, 240;" in result.stdout
    assert_same_training(tmp_path, "together")


def test_processes_with_few_users_or_none_take_part(tmp_path: Path) -> None:
    """The first of the parts holds a watch of an item that is too rare."""
    write_planted_log(tmp_path / "log.csv")
    kept = [line for line in (tmp_path / "log.csv").read_text().splitlines() if re.match(r"user_id|user [135],", line)]
    (tmp_path / "log.csv").write_text("\n".join([*kept, "somebody,rare,0"]) + "\n")
    write_parts([tmp_path / "log.csv"], tmp_path / "log.parts")
    settings_in(tmp_path)
    too_rare = "--min-item-count", "2"
    train_alone(tmp_path, *too_rare)
    result = torchrun(4, command(tmp_path, "together", *too_rare))
    assert result.returncode == 0, result.stderr
    # The steps of Adam on a handful of examples are as large where a gradient is nothing but rounding.
    assert_same_training(tmp_path, "together", tolerance=1e-3)
    evaluated = subprocess.run(
        [sys.executable, "-m", "winnow", "evaluate", "--interactions", str(tmp_path / "log.csv"),
         "--release", str(tmp_path / "together" / current_release_id(tmp_path / "together"))],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert evaluated.returncode == 0, evaluated.stderr


def test_what_processes_cannot_train_together_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    write_log(tmp_path)
    settings_in(tmp_path, "shuffled_copies = 1")
    result = torchrun(2, command(tmp_path, "together"))
    assert result.returncode == 1
    assert "shuffled_copies: several processes cannot train on copies of histories" in result.stderr
    assert not (tmp_path / "together").exists()
    assert not (tmp_path / "together-checkpoints").exists()
