"""A log in parts is the same log: what is learned from and what is reported do not depend on how it is stored."""

import csv
import gzip
import io
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from winnow.logs.file_formats import BlockSize
from winnow.logs.interactions import Interactions, read_interactions
from winnow.logs.log_format import PLAIN_LOG, LogFormat
from winnow.logs.part_writer import write_parts
from winnow.logs.split import SPLITS
from winnow.logs.statistics import LogStatistics

SMALL = BlockSize(text_bytes=64, parquet_rows=3)
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


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
