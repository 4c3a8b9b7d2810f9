"""Parts that are not as they were written are refused: a training on half of a log would look like any other."""

import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from winnow.logs.file_formats import BlockSize
from winnow.logs.input_table import InputFileError
from winnow.logs.inspection import inspect_log
from winnow.logs.interactions import read_interactions
from winnow.logs.log_format import LogFormat
from winnow.logs.part_counts import COUNTS_FILE
from winnow.logs.part_writer import write_parts
from winnow.logs.watches import read_watches

PARTS = 4


def frame(user: str = "u", row_count: int = 100) -> pl.DataFrame:
    numbers = pl.int_range(row_count, eager=True)
    return pl.DataFrame(
        {
            "user_id": [f"{user}{number % 13}" for number in numbers],
            "item_id": [f"i{number % 7}" for number in numbers],
            "timestamp": numbers,
            "weight": numbers.cast(pl.Float32),
        }
    )


def parts(folder: Path, log: pl.DataFrame | None = None, part_count: int = PARTS) -> Path:
    """Write a log in parts of several files each."""
    source = folder / "log.parquet"
    folder.mkdir(exist_ok=True)
    (frame() if log is None else log).write_parquet(source)
    write_parts([source], folder / "parts", part_count=part_count, size=BlockSize(parquet_rows=40), buffered_rows=1)
    return folder / "parts"


def read(log: Path) -> None:
    read_interactions(log, vocabulary_size=100, min_item_count=1)


def files(part: Path) -> list[Path]:
    return sorted(part.glob("*.parquet"))


def again(log: Path) -> None:
    """Copy a file under another name."""
    file = files(log / "part=2")[0]
    shutil.copy(file, file.with_name("copy.parquet"))


def cut(log: Path) -> None:
    """Leave the first half of a file, as a full disk does."""
    file = files(log / "part=2")[-1]
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def shorter(log: Path) -> None:
    """Leave out rows of a file, which is a whole one."""
    file = files(log / "part=2")[0]
    pl.read_parquet(file).head(1).write_parquet(file)


def of_another_run(log: Path) -> None:
    shutil.rmtree(log / "part=2")
    shutil.copytree(parts(log.parent / "other", frame("v", 90)) / "part=2", log / "part=2")


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda log: shutil.rmtree(log / "part=2"), "part=2 is missing, which was there when the parts were written"),
        (lambda log: shutil.copytree(log / "part=2", log / "part=9"), "part=9 was not there when the parts were"),
        (again, r"part=2 has [0-9]+ rows, not [0-9]+ as when it was written"),
        (shorter, r"part=2 has [0-9]+ rows, not [0-9]+ as when it was written"),
        (of_another_run, r"part=2 has [0-9]+ rows, not [0-9]+ as when it was written"),
        (cut, r"part=2/[0-9]+.parquet cannot be read as parquet"),
        (lambda log: (log / "part=2").rename(log / "part=02"), "part=02 is none of the parts"),
        (lambda log: (log / "part=__HIVE_DEFAULT_PARTITION__").mkdir(), "part=__HIVE_DEFAULT_PARTITION__ is none of"),
        (lambda log: (log / "part=7").write_text(""), "part=7 is none of the parts"),
        (lambda log: frame().write_parquet(log / "more.parquet"), "more.parquet is none of the parts"),
        (lambda log: (log / "part=2" / "day=1").mkdir(), "part=2/day=1 is no Parquet file"),
        (lambda log: (log / "part=2" / "a.parquet").mkdir(), "part=2/a.parquet is no Parquet file"),
        (lambda log: (log / "part=2" / "a.csv").touch(), "part=2/a.csv is no Parquet file"),
        (lambda log: (log / COUNTS_FILE).write_text("{"), f"{COUNTS_FILE} cannot be read: write the parts again"),
        (lambda log: (log / COUNTS_FILE).write_text('{"0": -1}'), f"{COUNTS_FILE} cannot be read"),
    ],
)
def test_what_is_not_as_it_was_written_is_named(tmp_path: Path, damage: Callable[[Path], object], problem: str) -> None:
    log = parts(tmp_path)
    read(log)
    damage(log)
    with pytest.raises(InputFileError, match=problem):
        read(log)
    with pytest.raises(InputFileError, match=problem):
        inspect_log(log)


def test_what_begins_with_a_dot_or_an_underscore_is_left_alone(tmp_path: Path) -> None:
    log = parts(tmp_path)
    (log / "part=2" / "_temporary").mkdir()
    (log / "part=2" / ".00000.parquet.crc").touch()
    (log / "_SUCCESS").touch()
    (log / "README.md").touch()
    read(log)


def test_without_the_counts_what_the_rows_say_is_checked(tmp_path: Path) -> None:
    """As other programs write parts: a file that is there twice, and a part of another log."""
    log = parts(tmp_path / "first")
    (log / COUNTS_FILE).unlink()
    again(log)
    with pytest.raises(InputFileError, match=r"part=2: two rows have the log_row [0-9]+: is a file there twice\?"):
        read(log)
    log = parts(tmp_path / "second")
    (log / COUNTS_FILE).unlink()
    other = parts(tmp_path / "third", frame("v"), part_count=PARTS + 1)
    shutil.rmtree(log / "part=2", ignore_errors=True)
    shutil.copytree(other / "part=2", log / "part=2")
    with pytest.raises(InputFileError, match="rows of two parts have the same log_row: the parts are of different"):
        read(log)


@pytest.mark.parametrize("column", ["weight", "log_row"])
def test_a_column_that_only_some_files_have_is_refused(tmp_path: Path, column: str) -> None:
    """Weights that are hours beside weights that are all 1 would be learned from."""
    log = parts(tmp_path)
    file = files(log / "part=3")[0]
    pl.read_parquet(file).drop(column).write_parquet(file)
    first = files(log / "part=0")[0]
    with pytest.raises(InputFileError, match=f"{file}: column {column} is missing, which {first} has"):
        read(log)


def test_all_files_of_a_log_have_weights_or_none_has(tmp_path: Path) -> None:
    with_weights, without = tmp_path / "1.parquet", tmp_path / "2.parquet"
    frame().write_parquet(with_weights)
    frame().drop("weight").write_parquet(without)
    for logs in ([with_weights, without], [without, with_weights]):
        with pytest.raises(InputFileError, match=f"{without}: column weight is missing, which {with_weights} has"):
            write_parts(logs, tmp_path / "parts")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.parquet", "2.parquet"]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (None, "column log_row, row 1: the value is missing"),
        (1.5, "column log_row, row 1: 1.5 must be an integer"),
        ("1", "column log_row has the type String, not an integer"),
    ],
)
def test_the_number_of_a_row_is_an_integer(tmp_path: Path, value: float | str | None, problem: str) -> None:
    log = parts(tmp_path, part_count=1)
    file = files(log / "part=0")[0]
    pl.read_parquet(file).with_columns(log_row=pl.lit(value)).write_parquet(file)
    with pytest.raises(InputFileError, match=problem):
        read(log)


def test_what_no_run_has_left_is_not_removed(tmp_path: Path) -> None:
    frame().write_parquet(tmp_path / "log.parquet")
    mine = tmp_path / "parts.unfinished" / "thesis.txt"
    mine.parent.mkdir()
    mine.touch()
    with pytest.raises(ValueError, match=r"thesis.txt is in the way"):
        write_parts([tmp_path / "log.parquet"], tmp_path / "parts")
    assert mine.exists()


def test_a_link_to_nowhere_is_not_written_over(tmp_path: Path) -> None:
    frame().write_parquet(tmp_path / "log.parquet")
    (tmp_path / "parts").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="parts exists"):
        write_parts([tmp_path / "log.parquet"], tmp_path / "parts")


def test_names_with_brackets_are_names(tmp_path: Path) -> None:
    """For polars they are patterns: it would read another file."""
    frame(row_count=50).write_parquet(tmp_path / "log1.parquet")
    frame(row_count=20).write_parquet(tmp_path / "log[1].parquet")
    assert read_watches(tmp_path / "log[1].parquet").watch_count == 20
    read(parts(tmp_path / "run [1]"))


DATES = pl.Series([2**31 - 1, 0], dtype=pl.Int32).cast(pl.Date)
MILLISECONDS = pl.Series([2**63 - 1, 0]).cast(pl.Datetime("ms"))
OF_OTHER_TYPES = {
    "list": pl.Series([[1], [2]]),
    "array": pl.Series([[1], [2]], dtype=pl.Array(pl.Int64, 1)),
    "struct": pl.Series([{"a": 1}, {"a": 2}]),
    "binary": pl.Series([b"1", b"2"]),
    "time": pl.Series([1, 2]).cast(pl.Time),
    "duration": pl.Series([1, 2]).cast(pl.Duration("us")),
}


@pytest.mark.parametrize(
    ("column", "values"),
    [
        *((column, values) for column in frame().columns for values in OF_OTHER_TYPES.values()),
        *((column, values) for column in ("user_id", "item_id", "weight") for values in (DATES, MILLISECONDS)),
        *((column, pl.Series(["1", "2"], dtype=pl.Categorical)) for column in ("timestamp", "weight")),
    ],
)
def test_columns_of_other_types_are_named(tmp_path: Path, column: str, values: pl.Series) -> None:
    path = tmp_path / "log.parquet"
    frame(row_count=2).with_columns(values.alias(column)).write_parquet(path)
    for log_format in (LogFormat(), LogFormat(skip_bad_rows=True)):
        with pytest.raises(InputFileError, match=f"log.parquet: column {column} has the type .*, not "):
            read_watches(path, log_format)
    with pytest.raises(InputFileError, match=f"log.parquet: column {column} has the type .*, not "):
        inspect_log(path)


@pytest.mark.parametrize("values", [DATES, MILLISECONDS])
def test_dates_beyond_all_calendars_are_named_like_any_time(tmp_path: Path, values: pl.Series) -> None:
    path = tmp_path / "log.parquet"
    frame(row_count=2).with_columns(values.alias("timestamp")).write_parquet(path)
    with pytest.raises(InputFileError, match=r"column timestamp, row 1: [0-9]+ must be seconds since 1970"):
        read_watches(path)
    assert read_watches(path, LogFormat(skip_bad_rows=True)).watch_count == 1


@pytest.mark.slow
def test_a_damaged_parquet_file_is_an_error_that_names_it_whatever_the_damage(tmp_path: Path) -> None:
    """A bit or two make polars panic, which is no Exception."""
    path = tmp_path / "log.parquet"
    frame(row_count=10).write_parquet(path)
    whole = path.read_bytes()
    refused = 0
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 32]) + whole[place + 1 :])
        try:
            read_watches(path)
        except InputFileError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused
