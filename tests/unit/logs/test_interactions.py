from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from winnow.catalogue.items import ItemCatalogue, ItemMetadata
from winnow.catalogue.vocabulary import MAX_ITEM_ID_BYTES, Vocabulary
from winnow.logs.input_table import InputFileError
from winnow.logs.interactions import Interactions, read_interactions
from winnow.logs.items_file import read_items
from winnow.logs.log_format import LogFormat


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def read(path: Path, **options: Any) -> Interactions:
    return read_interactions(path, **{"vocabulary_size": 100, "min_item_count": 1} | options)


def sequences(interactions: Interactions) -> dict[str, list[str]]:
    return {
        user: interactions.vocabulary.item_ids(interactions.histories[number])
        for number, user in enumerate(interactions.user_ids)
    }


def test_histories_are_in_time_order_and_ties_in_file_order(tmp_path: Path) -> None:
    log = write(tmp_path / "log.csv", "user_id,item_id,timestamp\nb,x,5\na,y,9\na,x,3\na,z,3\nb,y,5\na,w,3\n")
    interactions = read(log)
    assert sequences(interactions) == {"b": ["x", "y"], "a": ["x", "z", "w", "y"]}
    assert interactions.histories.timestamps.tolist() == [5, 5, 3, 3, 3, 9]
    assert interactions.histories.weights.tolist() == [1.0] * 6


def test_ties_in_the_order_of_a_hash_do_not_depend_on_the_file_or_on_other_users(tmp_path: Path) -> None:
    items = "abcdefgh"
    rows = [f"{user},{item},{7 if item < 'f' else 9}\n" for user in ("u", "v") for item in items]
    header = "user_id,item_id,timestamp\n"
    log_format = LogFormat(ties="hash")
    forward = read(write(tmp_path / "log.csv", header + "".join(rows)), log_format=log_format)
    backward = read(write(tmp_path / "log.csv", header + "".join(rows[::-1])), log_format=log_format)
    alone = read(write(tmp_path / "log.csv", header + "".join(rows[: len(items)])), log_format=log_format)
    found = sequences(forward)
    assert found == sequences(backward)
    assert found["u"] == sequences(alone)["u"]
    assert found["u"] != found["v"], "with one order for all users, networks could learn it"
    for watched in found.values():
        assert watched[:5] != sorted(watched[:5])
        assert (sorted(watched[:5]), sorted(watched[5:])) == (list("abcde"), list("fgh"))


def test_the_vocabulary_is_the_most_frequent_items(tmp_path: Path) -> None:
    log = write(
        tmp_path / "log.csv",
        "user_id,item_id,timestamp\n" + "".join(f"u,{item},1\n" for item in "ccbbaad") + "v,d,1\nw,e,1\n",
    )
    assert read(log).vocabulary.item_ids(np.arange(5, dtype=np.int32)) == ["a", "b", "c", "d", "e"]
    cut = read(log, vocabulary_size=2)
    assert sequences(cut) == {"u": ["b", "b", "a", "a"]}
    assert len(read(log, min_item_count=2).vocabulary) == 4


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("978300760", 978300760),
        ("978300760.75", 978300760),
        ("-3", -3),
        ("2000-12-31T22:12:40Z", 978300760),
        ("2000-12-31 22:12:40", 978300760),
        ("2000-12-31T23:12:40.5+01:00", 978300760),
        ("2001-01-01", 978307200),
    ],
)
def test_timestamps(tmp_path: Path, text: str, seconds: int) -> None:
    interactions = read(write(tmp_path / "log.csv", f"user_id,item_id,timestamp\nu,i,{text}\n"))
    assert interactions.histories.timestamps[0] == seconds


def test_fractions_of_a_second_order_watches(tmp_path: Path) -> None:
    log = write(tmp_path / "log.csv", "user_id,item_id,timestamp\nu,late,1.75\nu,early,1.25\n")
    assert sequences(read(log)) == {"u": ["early", "late"]}


def test_parquet_with_integers_and_dates_equals_csv(tmp_path: Path) -> None:
    write(tmp_path / "log.csv", "user_id,item_id,timestamp,weight\n7,1,1970-01-01T00:00:02,0.5\n8,-2,3,2\n7,1,0,1\n")
    moments = [datetime.fromtimestamp(second, UTC) for second in (2, 3, 0)]
    columns = {"user_id": [7, 8, 7], "item_id": [1, -2, 1], "weight": [0.5, 2.0, 1.0]}
    pl.DataFrame(columns | {"timestamp": moments}).write_parquet(tmp_path / "zoned.parquet")
    naive = [moment.replace(tzinfo=None) for moment in moments]
    pl.DataFrame(columns | {"timestamp": naive}).write_parquet(tmp_path / "naive.parquet")
    pl.DataFrame(columns | {"timestamp": [2, 3, 0]}).write_parquet(tmp_path / "seconds.parquet")
    expected = read(tmp_path / "log.csv")
    assert sequences(expected) == {"7": ["1", "1"], "8": ["-2"]}
    assert expected.histories.weights.tolist() == [1.0, 0.5, 2.0]
    for name in ("zoned", "naive", "seconds"):
        assert read(tmp_path / f"{name}.parquet").fingerprint == expected.fingerprint


def test_the_fingerprint_changes_with_the_content(tmp_path: Path) -> None:
    header = "user_id,item_id,timestamp\n"
    fingerprints = {
        read(write(tmp_path / "log.csv", header + rows)).fingerprint
        for rows in ("u,i,1\nu,j,2\n", "u,i,1\nu,j,3\n", "v,i,1\nv,j,2\n", "u,i,1\nu,k,2\n")
    }
    assert len(fingerprints) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user_id,timestamp\nu,1\n", "column item_id is missing; the file has user_id, timestamp"),
        ("user_id,item_id,timestamp\nu,i,1\nu,i,soon\nu,i,never\n", "column timestamp, line 3: 'soon' must be"),
        ("user_id,item_id,timestamp\nu,i,\n", "column timestamp, line 2: the value is missing"),
        ("user_id,item_id,timestamp\nu,i,nan\n", "column timestamp, line 2: 'nan' must be"),
        ("user_id,item_id,timestamp\nu,i,978300760000000\n", "column timestamp, line 2: '978300760000000' must be"),
        ("user_id,item_id,timestamp\nu,i,1\n,i,1\n", "column user_id, line 3: the value is missing"),
        ('user_id,item_id,timestamp\nu,"",1\n', "column item_id, line 2: .* must not be empty"),
        ("user_id,item_id,timestamp,weight\nu,i,1,-2\n", "column weight, line 2: '-2' must be a number"),
        ("user_id,item_id,timestamp,weight\nu,i,1,1\nu,i,1,much\n", "column weight, line 3: 'much' must be"),
        (
            "user_id,item_id,timestamp\nu,i,1\nu,i,1,2,3\n",
            "cannot be read as csv: line 3: 5 values, but the header has 3",
        ),
        ('user_id,item_id,timestamp\n"a\nb",i,1\nu,i,1,2\n', "cannot be read as csv: line 4: 4 values"),
        ('user_id,item_id,timestamp\nu,"i,1\nu,i,1\n', "cannot be read as csv: line 2: unexpected end of data"),
        (
            f"user_id,item_id,timestamp\nu,i,1\nu,{'x' * 513},1\n",
            "column item_id, line 3: 'xxx.* is longer than 512 bytes",
        ),
        (f"user_id,item_id,timestamp\nu,{'é' * 257},1\n", "column item_id, line 2: .* is longer than 512 bytes"),
        ("user_id,item_id,timestamp\n", "has no rows"),
        ("", "is empty"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputFileError, match=f"log.csv.*{message}"):
        read(write(tmp_path / "log.csv", text))


def test_a_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes(b"user_id,item_id,timestamp\nu,i,1\nu,\xff,1\n")
    with pytest.raises(InputFileError, match=r"log\.csv cannot be read as csv: line 3: not UTF-8"):
        read(tmp_path / "log.csv")


def test_ids_may_have_the_longest_length_that_a_request_allows(tmp_path: Path) -> None:
    longest = "é" * (MAX_ITEM_ID_BYTES // 2)
    log = read(write(tmp_path / "log.csv", f"user_id,item_id,timestamp\nu,{longest},1\n"))
    assert log.vocabulary.item_ids([0]) == [longest]


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match=r"log.csv cannot be read as csv"):
        read(tmp_path / "log.csv")
    with pytest.raises(InputFileError, match=r"log.parquet cannot be read as parquet"):
        read(write(tmp_path / "log.parquet", "user_id,item_id\n"))
    with pytest.raises(InputFileError, match=r"must end in \.csv, \.tsv"):
        read(write(tmp_path / "log.txt", ""))


def test_a_parquet_column_of_a_wrong_type(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    pl.DataFrame({"user_id": [[1]], "item_id": ["i"], "timestamp": [1]}).write_parquet(path)
    with pytest.raises(InputFileError, match=r"column user_id has the type List"):
        read(path)
    pl.DataFrame({"user_id": ["u"], "item_id": [None], "timestamp": [1]}).write_parquet(path)
    with pytest.raises(InputFileError, match=r"column item_id, row 1: the value is missing"):
        read(path)


def test_no_item_is_frequent_enough(tmp_path: Path) -> None:
    log = write(tmp_path / "log.csv", "user_id,item_id,timestamp\nu,i,1\n")
    with pytest.raises(InputFileError, match="no item has 5 watches or more"):
        read(log, min_item_count=5)


def test_items_are_described_by_row(tmp_path: Path) -> None:
    items = write(tmp_path / "items.csv", "item_id,title,year,genres\nb,The B,1995,\nunused,No,1,x\na,An A,,Drama\n")
    described = read_items(items, Vocabulary(["a", "b", "c"]))
    assert described.columns == {"year": [None, "1995", None], "genres": ["Drama", None, None]}
    shown = ItemCatalogue(described.attributes, Vocabulary(["a", "b", "c"]))
    assert [shown.title(row) for row in range(3)] == ["An A", "The B", "c"]
    assert [shown[row].attributes for row in range(3)] == [{"genres": "Drama"}, {"year": "1995"}, {}]
    nothing = ItemCatalogue(read_items(None, Vocabulary(["a", "b"])).attributes, Vocabulary(["a", "b"]))
    assert nothing[1] == ItemMetadata(title="b", attributes={})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("item_id,title\na,A\nb,B\na,C\n", "column item_id, line 4: 'a' occurs twice"),
        ("item_id\na\n", "column title is missing"),
    ],
)
def test_what_is_wrong_with_items_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputFileError, match=message):
        read_items(write(tmp_path / "items.csv", text), Vocabulary(["a"]))
