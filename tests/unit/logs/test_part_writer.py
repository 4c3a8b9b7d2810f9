"""A log in parts is the same log: what is learned from and what is reported do not depend on how it is stored."""

import csv
import gzip
import io
import json
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.planted_logs import STREAM, write_stream
from winnow.commands.data import INTERRUPTED
from winnow.locks import try_lock
from winnow.logs.file_formats import BlockSize
from winnow.logs.input_table import InputFileError
from winnow.logs.inspection import inspect_items, inspect_log
from winnow.logs.interactions import Interactions, read_interactions
from winnow.logs.log_format import PLAIN_LOG, LogFormat
from winnow.logs.part_writer import write_parts
from winnow.logs.parts import part_folders, parts_of_users
from winnow.logs.split import SPLITS
from winnow.logs.statistics import LogStatistics
from winnow.logs.watches import read_watches

SMALL = BlockSize(text_bytes=128, parquet_rows=3)
HEADER = ["user_id", "item_id", "timestamp", "weight"]
Row = tuple[str, str, int, float]

rows_of_logs = st.lists(
    st.tuples(
        st.sampled_from(["ann", "bob", "eve", 'the "7th"', "x,y", "line\nbreak", *map(str, range(10))]),
        st.sampled_from(["a", "b", "c", "d", "Käse", "e\nf"]),
        st.integers(-3, 3),
        st.sampled_from([0.0, 1.0, 2.5]),
    ),
    min_size=1,
    max_size=60,
)


def write(path: Path, rows: list[Row]) -> Path:
    if path.suffix == ".parquet":
        pl.DataFrame(rows, schema=HEADER, orient="row").write_parquet(path)
        return path
    text = io.StringIO()
    if ".csv" in path.suffixes:
        csv.writer(text, lineterminator="\n").writerows([HEADER, *rows])
    else:
        text.writelines(json.dumps(dict(zip(HEADER, row, strict=True))) + "\n" for row in rows)
    encoded = text.getvalue().encode()
    path.write_bytes(gzip.compress(encoded) if path.suffix == ".gz" else encoded)
    return path


def read(path: Path, log_format: LogFormat = PLAIN_LOG, min_item_count: int = 1) -> Interactions:
    return read_interactions(path, vocabulary_size=100, min_item_count=min_item_count, log_format=log_format)


def assert_same_log(found: Interactions, expected: Interactions) -> None:
    items = range(len(expected.vocabulary))
    assert found.vocabulary.item_ids(items) == expected.vocabulary.item_ids(items)
    assert found.user_ids == expected.user_ids
    for name in ("rows", "offsets", "weights", "timestamps"):
        np.testing.assert_array_equal(getattr(found.histories, name), getattr(expected.histories, name))
    assert found.fingerprint == expected.fingerprint
    assert found.rows.repeated_count == expected.rows.repeated_count
    assert found.rows.dropped_row_count == expected.rows.dropped_row_count
    for split in SPLITS.values():
        ours, theirs = split(found.histories), split(expected.histories)
        np.testing.assert_array_equal(ours.training.rows, theirs.training.rows)
        for part, held_out in theirs.held_out.items():
            np.testing.assert_array_equal(ours.held_out[part].targets, held_out.targets)
            np.testing.assert_array_equal(ours.held_out[part].histories.rows, held_out.histories.rows)
    statistics = [LogStatistics.of(log.histories, len(log.vocabulary)) for log in (found, expected)]
    assert statistics[0] == statistics[1]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=rows_of_logs,
    name=st.sampled_from(["log.csv", "log.csv.gz", "log.jsonl", "log.ndjson.gz", "log.parquet"]),
    part_count=st.sampled_from([1, 2, 7, 64]),
    buffered_rows=st.integers(1, 20),
    ties=st.sampled_from(["file", "hash"]),
    file_count=st.sampled_from([1, 2]),
)
def test_a_log_in_parts_is_the_same_log(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[Row],
    name: str,
    part_count: int,
    buffered_rows: int,
    ties: str,
    file_count: int,
) -> None:
    folder = tmp_path_factory.mktemp("log")
    log_format = LogFormat(ties=ties)  # type: ignore[arg-type]
    whole = write(folder / name, rows)
    files = [whole]
    if file_count == 2 and len(rows) > 1:
        files = [write(folder / f"1-{name}", rows[:1]), write(folder / f"2-{name}", rows[1:])]
    found = write_parts(
        files, folder / "parts", part_count=part_count, log_format=log_format, size=SMALL, buffered_rows=buffered_rows
    )
    assert found.row_count == len(rows)
    assert_same_log(read(folder / "parts", log_format), read(whole, log_format))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["ann", "bob", ""]),
            st.sampled_from(["a", "b\nb", "", "i" * 600]),
            st.sampled_from(["1", "2000-01-01", "soon", ""]),
            st.sampled_from(["1", "-1", "heavy"]),
        )
        | st.just(None),
        max_size=40,
    ),
    name=st.sampled_from(["log.csv", "log.jsonl", "log.jsonl.gz"]),
)
def test_rows_that_are_skipped_are_reported_alike(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str, str] | None], name: str
) -> None:
    path = tmp_path_factory.mktemp("log") / name
    good = ("ann", "a", "1", "1")
    text = io.StringIO()
    if name == "log.csv":
        # None is a line that is no record.
        csv.writer(text, lineterminator="\n").writerows([HEADER, good, *(row or ["x"] * 5 for row in rows)])
    else:
        for row in [good, *rows]:
            text.write((json.dumps(dict(zip(HEADER, row, strict=True))) if row else "[1, 2]") + "\n")
    encoded = text.getvalue().encode()
    path.write_bytes(gzip.compress(encoded) if path.suffix == ".gz" else encoded)
    log_format = LogFormat(skip_bad_rows=True)
    whole, in_blocks = read_watches(path, log_format), read_watches(path, log_format, SMALL)
    assert in_blocks.rows == whole.rows
    assert whole.rows.row_count == len(rows) + 1
    assert pl.concat(in_blocks.frames()).equals(pl.concat(whole.frames()))


MISSING = None, "the value is missing"
NO_TIME = "soon", "'soon' must be seconds since 1970 or ISO 8601 text, before the year 10000"


@pytest.mark.parametrize(
    ("name", "column", "value", "problem"),
    [
        ("log.csv", "user_id", *MISSING),
        ("log.csv", "item_id", "i" * 513, "is longer than 512 bytes"),
        ("log.csv", "weight", "-1", "'-1' must be a number, 0 or more"),
        ("log.csv.gz", "timestamp", *NO_TIME),
        ("log.tsv", "item_id", *MISSING),
        ("log.jsonl", "timestamp", *NO_TIME),
        ("log.jsonl.gz", "user_id", *MISSING),
        ("log.parquet", "timestamp", *NO_TIME),
        ("log.parquet", "weight", *MISSING),
    ],
)
def test_an_error_far_into_a_log_names_file_column_and_line(
    tmp_path: Path, name: str, column: str, value: str | None, problem: str
) -> None:
    records: list[dict[str, str | None]] = [
        {"user_id": f"u{number}", "item_id": 'i "1"\n', "timestamp": str(number), "weight": "1"} for number in range(20)
    ]
    records[15][column] = value
    path = tmp_path / name
    if path.suffix == ".parquet":
        pl.DataFrame(records).write_parquet(path)
    elif ".jsonl" in path.suffixes:
        text = "".join(json.dumps(record) + "\n" for record in records)
    else:
        text = pl.DataFrame(records).write_csv(separator="\t" if ".tsv" in path.suffixes else ",")
    if path.suffix != ".parquet":
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    # Every item id has a line break, and records count from 0.
    place = {".parquet": "row 16", ".jsonl": "line 16"}.get(path.suffixes[0], "line 32")
    with pytest.raises(InputFileError) as whole:
        read_watches(path)
    with pytest.raises(InputFileError) as in_parts:
        write_parts([path], tmp_path / "parts", size=SMALL, buffered_rows=5)
    assert str(in_parts.value) == str(whole.value)
    assert str(whole.value).startswith(f"{path}: column {column}, {place}: ")
    assert str(whole.value).endswith(problem)
    assert [found.name for found in tmp_path.iterdir()] == [name], "nothing half-written is left"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("u,i,1\n" * 30 + 'u,"i,1\n' + "u,i,1\n" * 5, "line 32: unexpected end of data"),
        ("u,i,1\n" * 30 + 'u,"i,1\n' + "u,i,1\n" * 500, "line 32: unexpected end of data"),
        ("u,i,1\n" * 30 + "u,i,1,2\n" + "u,i,1\n" * 5, "line 32: 4 values, but the header has 3"),
        ("", "has no rows"),
    ],
)
def test_a_line_that_is_no_record_is_named_in_whatever_block_it_is(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,timestamp\n" + text)
    with pytest.raises(InputFileError, match=message):
        read_watches(path, size=SMALL)
    with pytest.raises(InputFileError, match=message):
        read_watches(path)


def test_columns_have_the_same_type_in_all_blocks_of_json_lines(tmp_path: Path) -> None:
    """An id that is a number in one block and text in another, and a weight that only the last record has."""
    records = [{"user_id": number, "item_id": 2, "timestamp": 1} for number in range(20)]
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in [*records, {**records[0], "user_id": "x"}]))
    assert next(read_watches(path, size=SMALL).frames()).equals(next(read_watches(path).frames()))
    with path.open("a") as file:
        file.write(json.dumps({**records[0], "weight": 2}) + "\n")
    for size in (SMALL, BlockSize()):
        with pytest.raises(InputFileError, match="column weight, line 1: the value is missing"):
            read_watches(path, size=size)


def test_other_programs_write_the_same_parts(tmp_path: Path) -> None:
    """What Spark and Ray write by the scripts of docs/large-logs.md: several files a part, without a column log_row."""
    rows: list[Row] = [(f"u{number % 5}", f"i{number % 3}", number, 1.0) for number in range(40)]
    log = pl.DataFrame(rows, schema=HEADER, orient="row")
    for part, of_part in (
        log.with_columns(part=pl.Series(parts_of_users(log["user_id"], 4)))
        .partition_by("part", as_dict=True, include_key=False)
        .items()
    ):
        folder = tmp_path / "parts" / f"part={part[0]}"
        folder.mkdir(parents=True)
        for number, piece in enumerate(of_part.iter_slices(3)):
            piece.write_parquet(folder / f"part-{number:05d}-6ac8.snappy.parquet", compression="snappy")
        (folder / ".part-00000-6ac8.snappy.parquet.crc").touch()
    (tmp_path / "parts" / "_SUCCESS").touch()
    found = read(tmp_path / "parts")
    users = sorted(log["user_id"].unique(maintain_order=True), key=lambda user: int(parts_of_users([user], 4)[0]))
    assert found.user_ids == users
    expected = read(write(tmp_path / "log.parquet", sorted(rows, key=lambda row: users.index(row[0]))))
    assert_same_log(found, expected)


def test_parts_look_like_the_log_to_somebody_who_checks_it(tmp_path: Path) -> None:
    times = [*range(30), 9, 9, 5]
    rows = [(f"u{time % 7}", f"i{time % 4}", 1_500_000_000 + time, float(time % 3)) for time in times]
    log = write(tmp_path / "log.csv", [*rows, ("new", "rare", 1_500_000_003, 1.0)])
    write_parts([log], tmp_path / "parts", size=SMALL, buffered_rows=4)
    expected, found = inspect_log(log), inspect_log(tmp_path / "parts")
    assert list(found.facts()) == list(expected.facts())
    assert list(found.remarks()) == list(expected.remarks())
    assert len(list(found.remarks())) == 4
    assert list(found.refusals()) == []
    items = tmp_path / "items.csv"
    items.write_text("item_id,title\ni0,Zero\nx,X\n")
    assert inspect_items(items, found) == inspect_items(items, expected)


def test_the_unit_of_times_is_guessed_in_parts_of_other_programs(tmp_path: Path) -> None:
    (tmp_path / "part=0").mkdir()
    write(tmp_path / "part=0" / "a.parquet", [("ann", "a", 1_500_000_000_000, 1.0)] * 3)
    assert list(inspect_log(tmp_path).refusals()) == ["the times look like milliseconds: --time-unit milliseconds"]
    with pytest.raises(InputFileError, match=r"part=0/a.parquet: column timestamp, row 1: .*these look like millis"):
        read(tmp_path)


def test_a_user_in_two_parts_is_refused(tmp_path: Path) -> None:
    for part in ("part=0", "part=1"):
        (tmp_path / part).mkdir()
        write(tmp_path / part / "a.parquet", [("ann", "a", 1, 1.0)])
    with pytest.raises(InputFileError, match="the user 'ann' is in two parts"):
        read(tmp_path)


def test_a_folder_that_is_no_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="is a folder without parts"):
        read(tmp_path)
    (tmp_path / "part=3").mkdir()
    with pytest.raises(InputFileError, match="part=3 has no Parquet file"):
        read(tmp_path)


def test_parts_without_times_are_read_without_times(tmp_path: Path) -> None:
    log = write(tmp_path / "log.csv", [("ann", "a", 7, 1.0), ("bob", "b", 5, 1.0), ("ann", "b", 5, 1.0)])
    untimed = LogFormat(no_times=True)
    write_parts([log], tmp_path / "parts", log_format=untimed)
    assert_same_log(read(tmp_path / "parts", untimed), read(log, untimed))
    with pytest.raises(InputFileError, match=r"column timestamp is missing; .* or --no-times if it has none"):
        read(tmp_path / "parts")


def test_a_target_that_exists_is_left_alone(tmp_path: Path) -> None:
    log = write(tmp_path / "log.csv", [("ann", "a", 7, 1.0)])
    (tmp_path / "parts").mkdir()
    with pytest.raises(ValueError, match="parts exists"):
        write_parts([log], tmp_path / "parts")
    assert part_folders(tmp_path / "parts") == {}


def large_log(folder: Path) -> Path:
    return write(folder / "log.parquet", [(f"u{number}", f"item-{number}", number, 1.0) for number in range(20_000)])


def parts_command(log: Path, target: Path) -> list[str]:
    return [sys.executable, "-m", "winnow.cli", "data", "parts", str(log), "--to", str(target)]


def test_a_full_disk_is_an_error_of_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the size of files fails in the same call as a full disk."""
    log = large_log(tmp_path)
    done = subprocess.run(
        [*parts_command(log, tmp_path / "parts"), "--parts", "1"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.strip() == f"{tmp_path / 'parts'}: File too large"
    assert [found.name for found in tmp_path.iterdir()] == ["log.parquet"]


def test_a_command_that_is_told_to_end_leaves_nothing(tmp_path: Path) -> None:
    log = tmp_path / "log.parquet"
    numbers = pl.int_range(500_000, eager=True)
    pl.DataFrame({"user_id": numbers, "item_id": numbers, "timestamp": numbers}).write_parquet(log)
    target = tmp_path / "parts"
    with subprocess.Popen(parts_command(log, target)) as running:
        while running.poll() is None and not (tmp_path / "parts.unfinished").exists():
            time.sleep(0.005)
        running.send_signal(signal.SIGTERM)
    assert running.returncode == INTERRUPTED
    assert [found.name for found in tmp_path.iterdir()] == ["log.parquet"]


def test_what_a_killed_process_has_left_is_replaced_but_not_what_another_writes(tmp_path: Path) -> None:
    log = write(tmp_path / "log.csv", [("ann", "a", 7, 1.0)])
    left = tmp_path / "parts.unfinished" / "part=0"
    left.mkdir(parents=True)
    write(left / "00000.parquet", [("eve", "e", 7, 1.0)])
    with try_lock(left.parent) as free:
        assert free
        with pytest.raises(ValueError, match="parts is being written by another process"):
            write_parts([log], tmp_path / "parts")
    assert (left / "00000.parquet").exists()
    write_parts([log], tmp_path / "parts")
    assert read(tmp_path / "parts").user_ids == ["ann"]
    assert sorted(found.name for found in tmp_path.iterdir()) == ["log.csv", "parts"]


PEAK_MEMORY = """
import sys
from pathlib import Path
from winnow.logs.interactions import read_interactions
log = read_interactions(Path(sys.argv[1]), vocabulary_size=10**9, min_item_count=1)
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(log.fingerprint, int(status["VmHWM"].split()[0]))
"""


def peak_kilobytes(log: Path) -> tuple[str, int]:
    command = [sys.executable, "-c", PEAK_MEMORY, str(log)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    fingerprint, kilobytes = done.stdout.split()
    return fingerprint, int(kilobytes)


@pytest.mark.slow
def test_a_log_in_parts_takes_little_memory(tmp_path: Path) -> None:
    stream = replace(STREAM, user_count=100_000, item_count=20_000, taste_count=100, watches_per_file=4_000_000)
    write_stream(stream, tmp_path / "stream", watch_count=4_000_000, seed=1)
    [whole] = (tmp_path / "stream").iterdir()
    write_parts([whole], tmp_path / "parts")
    _, base = peak_kilobytes(write(tmp_path / "small.csv", [("u", "i", 1, 1.0)]))
    expected, in_memory = peak_kilobytes(whole)
    found, in_parts = peak_kilobytes(tmp_path / "parts")
    assert found == expected
    assert in_parts - base < (in_memory - base) / 3
