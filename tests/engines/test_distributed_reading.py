"""Each process of a training reads its own parts of the log, and knows of the others' what one process would know."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.engines.reading_process import MIN_ITEM_COUNT, RANGE_COUNT, VOCABULARY_SIZE
from tests.engines.training_processes import (
    assert_same_training,
    command,
    settings_in,
    start_process,
    torchrun,
    train_alone,
    write_log,
)
from winnow.logs.interactions import read_interactions
from winnow.logs.part_counts import COUNTS_FILE
from winnow.logs.part_writer import write_parts
from winnow.logs.split import LogSplit
from winnow.logs.statistics import LogStatistics
from winnow.networks.watch_features import quantile_edges
from winnow.release.reader import open_current_release
from winnow.serving.local_stack import free_port
from winnow.training.rollback_chunks import time_span

pytestmark = pytest.mark.engines

READING = "tests.engines.reading_process"


def write_logs(directory: Path) -> list[Path]:
    """Write the same watches, many of them at the same time, in parts, and in those of another program."""
    draws = random.Random(1)
    rows = [
        (f"user {draws.randrange(25)}", f"item {min(draws.randrange(12), draws.randrange(12))}",
         1_500_000_000 + draws.randrange(50), draws.random() * 9)
        for _ in range(400)
    ]  # fmt: skip
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "weight"], orient="row")
    log.write_csv(directory / "log.csv")
    write_parts([directory / "log.csv"], directory / "log.parts", part_count=7)
    shutil.copytree(directory / "log.parts", directory / "unnumbered.parts")
    for file in (directory / "unnumbered.parts").rglob("*.parquet"):
        pl.read_parquet(file, hive_partitioning=False).drop("log_row").write_parquet(file)
    return [directory / name for name in ("log.parts", "unnumbered.parts")]


def read_by(count: int, logs: list[Path], found: Path) -> None:
    found.mkdir()
    port, arguments = free_port("127.0.0.1"), [str(found), *map(str, logs)]
    processes = [start_process(rank, count, port, arguments, READING) for rank in range(count)]
    try:
        for process in processes:
            _, error = process.communicate(timeout=100)
            assert process.returncode == 0, error
    finally:
        for process in processes:
            process.kill()


def test_processes_that_read_their_parts_know_what_one_that_reads_all_does(tmp_path: Path) -> None:
    logs = write_logs(tmp_path)
    read_by(3, logs, tmp_path / "by 3")
    read_by(1, logs, tmp_path / "by 1")
    for log in logs:
        whole = read_interactions(log, vocabulary_size=VOCABULARY_SIZE, min_item_count=MIN_ITEM_COUNT)
        split = LogSplit.leave_last_out(whole.histories)
        of_ranks = [np.load(tmp_path / "by 3" / f"{log.name}-{rank}.npz") for rank in range(3)]
        users = np.concatenate([own["users"] for own in of_ranks])
        assert sorted(users.tolist()) == list(range(len(whole.user_ids)))
        for own in of_ranks:
            # What is of the users here.
            assert 0 < len(own["users"]) < len(whole.user_ids)
            ours = split.training.take(split.training.offsets[own["users"]], split.training.lengths[own["users"]])
            np.testing.assert_array_equal(own["rows"], ours.rows)
            np.testing.assert_array_equal(own["weights"], ours.weights)
            np.testing.assert_array_equal(own["times"], ours.timestamps)
            np.testing.assert_array_equal(own["own_lengths"], ours.lengths)
            here = np.isin(split.validation.users, own["users"])
            np.testing.assert_array_equal(own["validation_users"], split.validation.users[here])
            np.testing.assert_array_equal(own["validation_targets"], split.validation.targets[here])
            # What is of the log.
            assert own["items"].tolist() == whole.vocabulary.item_ids(range(len(whole.vocabulary)))
            np.testing.assert_array_equal(own["log_lengths"], whole.histories.lengths)
            np.testing.assert_array_equal(own["lengths"], split.training.lengths)
            np.testing.assert_array_equal(own["watch_counts"], split.watch_counts(len(whole.vocabulary)))
            assert tuple(own["time_span"].tolist()) == time_span(split.training)
            assert own["rows_read"] == repr(whole.rows)
            assert own["statistics"] == repr(LogStatistics.of(split.training, len(whole.vocabulary)))
            assert tuple(own["edges"].tolist()) == quantile_edges(split.training.weights, RANGE_COUNT)
            backwards = range(len(whole.user_ids) - 1, -1, -2)
            np.testing.assert_array_equal(own["gathered"], np.concatenate([split.training[user] for user in backwards]))
        # Checkpoints are of the same data, whatever the number of processes.
        by_one = np.load(tmp_path / "by 1" / f"{log.name}-0.npz")
        assert {str(own["fingerprint"]) for own in of_ranks} == {str(by_one["fingerprint"])}


def test_a_process_trains_without_opening_the_parts_of_the_others(tmp_path: Path) -> None:
    """Settings follow from the log here, which no process has read as a whole."""
    write_log(tmp_path, part_count=5)
    settings_in(tmp_path, "shuffled_copies = 0\nweight_range_count = 4", epochs=2)
    automatic = "--preset", "auto"
    train_alone(tmp_path, *automatic)
    shutil.copytree(tmp_path / "log.parts", tmp_path / "others.parts")
    for file in tmp_path.glob("others.parts/part=[024]/*"):
        file.write_text("no Parquet file")
    port = free_port("127.0.0.1")
    logs = [tmp_path / "log.parts", tmp_path / "others.parts"]
    processes = [
        start_process(rank, 2, port, command(tmp_path, "together", *automatic, "--interactions", str(logs[rank])))
        for rank in range(2)
    ]
    try:
        for process in processes:
            _, error = process.communicate(timeout=200)
            assert process.returncode == 0, error
    finally:
        for process in processes:
            process.kill()
    assert_same_training(tmp_path, "together")
    trained = [open_current_release(tmp_path / name).manifest.training for name in ("alone", "together")]
    for name in ("automatic", "data_sha256", "user_count", "watch_count", "max_training_timestamp"):
        assert trained[0][name] == trained[1][name]


def damage(log: Path) -> None:
    for file in log.glob("part=1/*"):
        file.write_text("no Parquet file")


def give_a_user_to_two_parts(log: Path) -> None:
    of_first = pl.read_parquet(log / "part=0" / "00000.parquet", hive_partitioning=False)
    of_first.head(1).write_parquet(log / "part=1" / "00001.parquet")
    (log / COUNTS_FILE).unlink()


def keep_one_part(log: Path) -> None:
    for part in (1, 2):
        shutil.rmtree(log / f"part={part}")
    (log / COUNTS_FILE).unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (damage, "part=1/00000.parquet cannot be read as parquet"),
        (give_a_user_to_two_parts, "is in two parts: a user's watches must be in one part"),
        (keep_one_part, "log.parts: 2 processes cannot share 1 parts: start fewer, or cut the log into more parts"),
    ],
)
def test_a_log_that_one_process_cannot_use_ends_all_with_one_error(
    spoil: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    write_log(tmp_path, part_count=3)
    settings_in(tmp_path)
    spoil(tmp_path / "log.parts")
    result = torchrun(2, command(tmp_path, "together"))
    assert result.returncode == 1
    [error] = {line for line in result.stderr.splitlines() if message in line}
    assert error.startswith(str(tmp_path / "log.parts"))
    assert "another process of the training" not in result.stderr
    assert not (tmp_path / "together").exists()


def test_a_part_that_one_process_does_not_find_is_named(tmp_path: Path) -> None:
    write_log(tmp_path, part_count=3)
    settings_in(tmp_path)
    shutil.copytree(tmp_path / "log.parts", tmp_path / "copy.parts")
    shutil.rmtree(tmp_path / "copy.parts" / "part=2")
    port = free_port("127.0.0.1")
    processes = [
        start_process(rank, 2, port, command(tmp_path, "together", "--interactions", str(tmp_path / log)))
        for rank, log in enumerate(["log.parts", "copy.parts"])
    ]
    for process in processes:
        _, error = process.communicate(timeout=100)
        assert process.returncode == 1
        assert "part=2/00000.parquet is not there for all processes" in error
