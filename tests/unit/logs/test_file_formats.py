"""Every format of the same log is the same log, and a line that is no record is named."""

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from winnow.logs.input_table import InputFileError, InputTable
from winnow.logs.interactions import Interactions, read_interactions
from winnow.logs.log_format import LogFormat

HEADER = ["user_id", "item_id", "timestamp", "weight"]
ROWS = [["ann", "sku, 1", "5", "2"], ["bob", 'the "two"', "7", "1.5"], ["ann", "Käse", "3", "1"]]


def read(path: Path, **options: object) -> Interactions:
    log_format = LogFormat(**options)  # type: ignore[arg-type]
    return read_interactions(path, vocabulary_size=100, min_item_count=1, log_format=log_format)


def delimited(delimiter: str, header: list[str] = HEADER) -> str:
    def quoted(value: str) -> str:
        return '"' + value.replace('"', '""') + '"' if set(value) & {delimiter, '"'} else value

    return "".join(delimiter.join(map(quoted, row)) + "\n" for row in [header, *ROWS])


def write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.fixture
def expected(tmp_path: Path) -> str:
    return read(write(tmp_path / "expected.csv", delimited(","))).fingerprint


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("log.csv", delimited(";")),
        ("log.csv", delimited("\t")),
        ("log.csv", delimited("|")),
        ("log.csv", "\ufeff" + delimited(";")),
        ("log.csv", delimited(",").replace("\n", "\r\n")),
        ("LOG.CSV", delimited(",")),
        ("log.tsv", delimited("\t")),
        ("log.csv.gz", delimited(",")),
        ("log.tsv.gz", delimited("\t")),
        ("log.jsonl", "".join(json.dumps(dict(zip(HEADER, row, strict=True))) + "\n" for row in ROWS)),
        ("log.json.gz", "".join(json.dumps(dict(zip(HEADER, row, strict=True))) + "\n" for row in ROWS)),
        (
            "log.jsonl",
            "".join(
                json.dumps({"user_id": user, "item_id": item, "timestamp": int(time), "weight": float(weight)}) + "\n"
                for user, item, time, weight in ROWS
            ),
        ),
    ],
)
def test_every_format_is_the_same_log(tmp_path: Path, expected: str, name: str, text: str) -> None:
    assert read(write(tmp_path / name, text)).fingerprint == expected


@pytest.mark.parametrize("header", ["User ID,ITEM_ID,Timestamp,Weight", " user_id , item-id,timestamp ,weight "])
def test_case_and_blanks_of_the_header_do_not_matter(tmp_path: Path, expected: str, header: str) -> None:
    assert read(write(tmp_path / "log.csv", delimited(",", header.split(",")))).fingerprint == expected


def test_columns_may_have_other_names(tmp_path: Path, expected: str) -> None:
    log = write(tmp_path / "log.csv", delimited(",", ["customer", "SKU", "ordered at", "quantity"]))
    names = {"user_column": "customer", "item_column": "sku", "time_column": "ordered_at"}
    assert read(log, **names, weight_column="quantity").fingerprint == expected
    assert read(log, **names).histories.weights.tolist() == [1, 1, 1]
    message = (
        r"columns user_id, item_id, timestamp are missing; the file has customer, SKU, ordered at, quantity "
        r"\(--user-column, --item-column, --time-column, or --no-times if it has none\)"
    )
    with pytest.raises(InputFileError, match=message):
        read(log)
    with pytest.raises(InputFileError, match="column amount is missing"):
        read(log, **names, weight_column="amount")


def test_names_that_could_both_be_meant_are_refused(tmp_path: Path) -> None:
    log = write(tmp_path / "log.csv", "User_ID,USER ID,item_id,timestamp\nu,v,i,1\n")
    with pytest.raises(InputFileError, match="'User_ID' and 'USER ID' could both be the column user_id"):
        read(log)


def test_a_wrong_value_is_named_as_the_file_calls_its_column(tmp_path: Path) -> None:
    log = write(tmp_path / "log.csv", "User ID;sku;timestamp\nu;i;soon\n")
    with pytest.raises(InputFileError, match="column timestamp, line 2: 'soon' must be"):
        read(log, item_column="sku")
    log = write(tmp_path / "log.csv", "User ID;sku;timestamp\nu;;3\n")
    with pytest.raises(InputFileError, match="column sku, line 2: the value is missing"):
        read(log, item_column="sku")


@pytest.mark.parametrize(
    ("unit", "time"),
    [("milliseconds", "1700000000250"), ("microseconds", "1700000000250000"), ("nanoseconds", "1700000000250000000")],
)
def test_times_in_other_units(tmp_path: Path, unit: str, time: str) -> None:
    log = write(tmp_path / "log.csv", f"user_id,item_id,timestamp\nu,i,{time}\nu,j,2023-11-14T22:13:21Z\n")
    assert read(log, time_unit=unit).histories.timestamps.tolist() == [1_700_000_000, 1_700_000_001]
    with pytest.raises(InputFileError, match=f"line 2: '{time}' must be seconds since 1970 .*; these look like {unit}"):
        read(log)


def test_lines_are_counted_where_values_have_line_breaks(tmp_path: Path) -> None:
    log = write(tmp_path / "log.csv", 'user_id,item_id,timestamp\nu,"a\nb",1\nu,i,soon\n')
    with pytest.raises(InputFileError, match="column timestamp, line 4: 'soon'"):
        read(log)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not json", "line 2: not JSON: Expecting value"),
        ("[" * 100_000, "line 2: not JSON: maximum recursion depth exceeded"),
        ("[1, 2]", "line 2: not a JSON object"),
        ('{"user_id": "u", "item_id": "i", "timestamp": "soon"}', "column timestamp, line 2: 'soon' must be"),
        ('{"user_id": "u", "item_id": "i"}', "column timestamp, line 2: the value is missing"),
    ],
)
def test_a_line_of_json_that_is_no_record_is_named(tmp_path: Path, line: str, message: str) -> None:
    good = '{"user_id": "u", "item_id": "i", "timestamp": 1}\n'
    with pytest.raises(InputFileError, match=message):
        read(write(tmp_path / "log.jsonl", good + line + "\n" + good))
    log = read(write(tmp_path / "log.jsonl", good + line + "\n" + good), skip_bad_rows=True)
    assert log.histories.timestamps.tolist() == [1, 1]
    assert (log.rows.row_count, log.rows.skipped_count) == (3, 1)
    assert len(log.rows.first_skipped) == 1


def test_bad_rows_are_skipped_counted_and_the_first_ten_are_shown(tmp_path: Path) -> None:
    bad = ["u,i,soon", ",i,1", "u,,1", "u,i,1,2,3", "\udcff,i,1", "u,i", *["u,i,never"] * 20]
    text = "\n".join(["user_id,item_id,timestamp", "u,i,1", *bad, 'u,"a\nb",2', "u,i,wrong", "v,i,2"]) + "\n"
    path = tmp_path / "log.csv"
    path.write_bytes(text.encode(errors="surrogateescape"))
    log = read(path, skip_bad_rows=True)
    assert log.histories.timestamps.tolist() == [1, 2, 2]
    assert (log.rows.row_count, log.rows.skipped_count) == (30, 27)
    assert log.rows.first_skipped[:6] == [
        "line 3: column timestamp: 'soon' must be seconds since 1970 or ISO 8601 text, before the year 10000",
        "line 4: column user_id: the value is missing",
        "line 5: column item_id: the value is missing",
        "line 6: 5 values, but the header has 3",
        "line 7: not UTF-8",
        "line 8: column timestamp: the value is missing",
    ]
    assert [row.split(":")[0] for row in log.rows.first_skipped[6:]] == ["line 9", "line 10", "line 11", "line 12"]
    assert next(log.rows.remarks()) == "Rows that cannot be read and are left out: 27 of 30. The first:"
    with pytest.raises(InputFileError, match="line 6: 5 values, but the header has 3"):
        read(path)


def test_a_quote_that_is_never_closed_does_not_swallow_the_rest_as_one_bad_row(tmp_path: Path) -> None:
    log = write(tmp_path / "log.csv", 'user_id,item_id,timestamp\nu,i,1\nu,"i,1\nu,i,1\n')
    with pytest.raises(InputFileError, match="line 3: unexpected end of data"):
        read(log, skip_bad_rows=True)


def test_a_log_of_bad_rows_alone_is_refused(tmp_path: Path) -> None:
    log = write(tmp_path / "log.csv", "user_id,item_id,timestamp\nu,i,soon\nu,i,never\n")
    with pytest.raises(InputFileError, match="no row can be used; line 2: column timestamp: 'soon' must be"):
        read(log, skip_bad_rows=True)


def test_a_row_of_a_parquet_file_is_skipped(tmp_path: Path) -> None:
    frame = pl.DataFrame({"user_id": ["u", None, "v"], "item_id": ["i"] * 3, "timestamp": [1, 2, 3]})
    frame.write_parquet(tmp_path / "log.parquet")
    log = read(tmp_path / "log.parquet", skip_bad_rows=True)
    assert log.user_ids == ["u", "v"]
    assert log.rows.first_skipped == ["row 2: column user_id: the value is missing"]


def test_repeated_and_rare_rows_are_counted_and_used_as_before(tmp_path: Path) -> None:
    log = write(tmp_path / "log.csv", "user_id,item_id,timestamp\nu,i,1\nu,i,1\nu,i,2\nv,i,1\nv,rare,1\nv,rare,1\n")
    found = read_interactions(log, vocabulary_size=100, min_item_count=3)
    assert len(found.histories.rows) == 4
    assert list(found.rows.remarks()) == [
        "Rows that repeat the user, item and time of another: 2. All of them count.",
        "Rare items that are left out: 1, with 2 watches.",
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("log.csv.gz", b"no gzip", "cannot be read as csv: Not a gzipped file"),
        (
            "log.csv.gz",
            gzip.compress(b"user_id,item_id,timestamp\nu,i,1\n", mtime=0)[:-9],
            "cannot be read as csv: Compressed file",
        ),
        ("log.jsonl", b"", "is empty"),
        ("log.csv.gz", gzip.compress(b"", mtime=0), "is empty"),
        ("log.json", b' \n[{"user_id": "u"}]', "is a JSON array: there must be one object on each line"),
        (
            "log.txt",
            b"",
            "the name must end in .csv, .tsv, .jsonl, .ndjson, .json, each of them also with .gz, or .parquet",
        ),
        ("log.parquet.gz", b"", "the name must end in"),
        ("log", b"", "the name must end in"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputFileError, match=message):
        InputTable.read(tmp_path / name)


@pytest.mark.parametrize("text", ["u" * 3_000_000, 'user_id,"item_id\n' + "u,i\n" * 2000])
def test_a_header_without_an_end_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputFileError, match=r"log.csv: the header has no end"):
        read(write(tmp_path / "log.csv", text))
