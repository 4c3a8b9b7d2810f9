"""A log that several ranks share: each reads its own part of it, and together they have read all of it."""

from pathlib import Path

import polars as pl
import pytest

from winnow.logs.input_table import InputFileError
from winnow.logs.log_format import LogFormat
from winnow.logs.part_writer import write_parts
from winnow.logs.parts import parts_of_users
from winnow.logs.watches import WatchTable, read_watches


def write_log(path: Path) -> Path:
    rows = [{"user_id": f"u{n % 40}", "item_id": f"i{n % 7}", "timestamp": str(1000 - n)} for n in range(200)]
    rows[60]["timestamp"] = "soon"
    pl.DataFrame(rows).write_csv(path)
    return path


def test_the_ranks_read_all_of_a_log_and_nothing_twice(tmp_path: Path) -> None:
    log, bad_rows = tmp_path / "log.parts", LogFormat(skip_bad_rows=True)
    write_parts([write_log(tmp_path / "log.csv")], log, part_count=9, log_format=bad_rows)
    whole = read_watches(log, bad_rows)
    shares = [read_watches(log, bad_rows, share=(rank, 4)) for rank in range(4)]
    read = pl.concat(frame for share in shares for frame in share.frames())
    assert read.sort("log_row").equals(pl.concat(whole.frames()).sort("log_row"))
    users = [set(pl.concat(share.frames())["user_id"]) for share in shares]
    assert sum(map(len, users)) == len(set.union(*users)) == 40
    together = shares[2].with_others([share.rows for share in shares], [share.item_counts for share in shares])
    assert together.rows == whole.rows
    assert together.item_counts.sort("item_id").equals(whole.item_counts.sort("item_id"))
    assert together.parts is shares[2].parts


def test_a_rank_does_not_open_the_parts_of_others(tmp_path: Path) -> None:
    write_parts(
        [write_log(tmp_path / "log.csv")],
        tmp_path / "log.parts",
        part_count=5,
        log_format=LogFormat(skip_bad_rows=True),
    )
    for file in tmp_path.glob("log.parts/part=[024]/*"):
        file.write_text("no Parquet file")
    own = read_watches(tmp_path / "log.parts", share=(1, 2))
    assert [part.number for part in own.parts] == [1, 3]
    for part in own.parts:
        assert set(parts_of_users(part.read()["user_id"], 5).tolist()) == {part.number}
    with pytest.raises(InputFileError, match=r"part=0/00000\.parquet cannot be read as parquet"):
        read_watches(tmp_path / "log.parts", share=(0, 2))


def test_more_ranks_than_parts_are_refused_and_a_file(tmp_path: Path) -> None:
    log, parts = write_log(tmp_path / "log.csv"), tmp_path / "log.parts"
    write_parts([log], parts, part_count=3, log_format=LogFormat(skip_bad_rows=True))
    with pytest.raises(InputFileError, match=r"log\.parts: 4 processes cannot share 3 parts"):
        read_watches(parts, share=(0, 4))
    with pytest.raises(InputFileError, match=r"log\.csv: several processes share a log in parts"):
        read_watches(log, share=(0, 2))


def test_a_log_without_a_watch_is_refused_and_a_share_of_one_is_not(tmp_path: Path) -> None:
    path, bad_rows = tmp_path / "log.parts", LogFormat(skip_bad_rows=True)
    for number in range(2):
        (path / f"part={number}").mkdir(parents=True)
        rows = pl.DataFrame({"user_id": [f"u{number}"], "item_id": ["a"], "timestamp": ["soon"]})
        rows.write_parquet(path / f"part={number}" / "0.parquet")
    shares: list[WatchTable] = [read_watches(path, bad_rows, share=(rank, 2)) for rank in range(2)]
    with pytest.raises(InputFileError, match=r"no row can be used; part=0/0\.parquet, row 1: column timestamp: 'soon'"):
        shares[0].with_others([share.rows for share in shares], [share.item_counts for share in shares])
