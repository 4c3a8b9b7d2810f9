"""`winnow check` says what is in a log, what training would refuse, and what it would take."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.unit.training.planted import write_planted_log
from winnow.cli import app


def check(log: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["check", str(log), *arguments], env={"COLUMNS": "200"})


@pytest.fixture
def log(tmp_path: Path) -> Path:
    write_planted_log(tmp_path / "log.csv")
    return tmp_path / "log.csv"


def changed(log: Path, change: dict[str, str]) -> Path:
    text = log.read_text()
    for old, new in change.items():
        text = text.replace(old, new)
    log.write_text(text)
    return log


def test_a_good_log_is_described_and_the_training_measured(log: Path) -> None:
    with log.open("a") as file:
        file.write("user 1,rare,5\nuser 1,rare,5\nshort,item 1,5\n")
    result = check(log)
    assert result.exit_code == 0, result.output
    for line in (
        "963 rows, from 1970-01-01 to 1970-01-01",
        "963 watches by 81 users of 41 items: 12 a user (median), 23 an item",
        "no weights: all watches count the same",
        "note: the times are of the years 1970 to 1970",
        "note: rows that repeat the user, item and time of another row: 1; all of them count",
        "note: users with fewer than 3 watches, and none to hold out for validation and test: 1",
        "With the preset auto",
        "40 items are learned, from 961 watches",
        "items that are left out: 1, with 2 watches: fewer than 5 watches (--min-item-count)",
        " of memory, measured on a few steps",
        "Settings that follow from the watches that are trained on",
        "801 watches are few: ",
        "candidate network: 6 epochs of ",
        "ranking network: 4 epochs of ",
        f"Train with: winnow train --interactions {log} --preset auto",
    ):
        assert line in result.stdout
    for once in ("the order of the watches says ", "no weights"):
        assert result.stdout.count(once) == 1
        assert check(log, "--preset=demo").stdout.count(once) == 1


def test_items_that_are_watched_again_are_announced(log: Path) -> None:
    again = "of the watches are of an item that the user has watched before. Answers leave out what was watched"
    assert again not in check(log).stdout
    header, *rows = log.read_text().splitlines()
    later = [f"{user_and_item},{int(time) + 5000}" for user_and_item, time in (row.rsplit(",", 1) for row in rows)]
    log.write_text("\n".join([header, *rows, *later]))
    assert f"note: 50% {again}" in check(log).stdout


def test_rows_that_are_not_in_order_are_no_problem(log: Path) -> None:
    assert "each user's watches are in time order" in check(log).stdout
    header, *rows = log.read_text().splitlines()
    log.write_text("\n".join([header, *reversed(rows)]))
    result = check(log)
    assert "the rows are not in time order; they are sorted when they are read" in result.stdout
    assert result.exit_code == 0


def test_bad_rows_are_counted_and_refused_unless_they_are_to_be_skipped(log: Path) -> None:
    with log.open("a") as file:
        file.write("user 1,,5\nuser 1,item 1,soon\n")
    result = check(log)
    assert result.exit_code == 1
    assert "error: rows that cannot be read: 2; --skip-bad-rows leaves them out. The first are:" in result.stdout
    assert "line 962: column item_id: the value is missing" in result.stdout
    result = check(log, "--skip-bad-rows")
    assert result.exit_code == 0
    assert "note: rows that cannot be read and are left out: 2. The first are:" in result.stdout
    assert "--preset auto --skip-bad-rows" in result.stdout


def test_milliseconds_are_recognised(log: Path) -> None:
    header, *rows = log.read_text().splitlines()
    late = [f"{row.rsplit(',', 1)[0]},{1_700_000_000_000 + 1000 * int(row.rsplit(',', 1)[1])}" for row in rows]
    log.write_text("\n".join([header, *late]))
    result = check(log)
    assert result.exit_code == 1
    assert "error: the times look like milliseconds: --time-unit milliseconds" in result.stdout
    assert "from 2023-11-14 to 2023-11-14" in result.stdout
    result = check(log, "--time-unit", "milliseconds")
    assert result.exit_code == 0
    assert "--preset auto --time-unit milliseconds" in result.stdout


def test_times_that_are_all_the_same_are_remarked(log: Path) -> None:
    header, *rows = log.read_text().splitlines()
    log.write_text("\n".join([header, *(f"{row.rsplit(',', 1)[0]},1700000000" for row in rows)]))
    result = check(log)
    assert "note: 100% of the watches have the same time as the one before by their user: of those, only" in (
        result.stdout
    )
    assert "no times between watches" in result.stdout


def test_items_are_compared_with_the_log(log: Path, tmp_path: Path) -> None:
    items = tmp_path / "items.csv"
    items.write_text("\n".join(["Item ID,Name,shelf", *(f"item {row},Title {row},{row}" for row in range(2, 45))]))
    result = check(log, "--items", str(items))
    assert result.exit_code == 1
    assert "column title is missing; the file has Item ID, Name, shelf (--title-column)" in result.stderr
    result = check(log, "--items", str(items), "--title-column", "name")
    assert result.exit_code == 0, result.output
    for line in (
        "43 items",
        "attribute shelf: number (43 of 43 values are numbers)",
        "note: ids without a watch in the log: 5 ('item 40', 'item 41', 'item 42', ...)",
        "note: items of the log that are not in this file: 2 (",
        f"--items {items} --preset auto --title-column name",
    ):
        assert line in result.stdout


def test_settings_and_types_of_attributes_are_those_of_the_training(log: Path, tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("\n".join(["item_id,title,shelf", *(f"item {n},T,{n}" for n in range(40))]))
    (tmp_path / "my.toml").write_text("[candidate]\nepochs = 9\n")
    options = ["--items", str(tmp_path / "items.csv"), "--attribute-types", "shelf:text"]
    options += ["--preset", "record", "--settings", str(tmp_path / "my.toml")]
    result = check(log, *options)
    assert result.exit_code == 0, result.output
    assert "attribute shelf: text (given)" in result.stdout
    assert "candidate network: 9 epochs of 3 steps, about " in result.stdout
    assert f"Train with: winnow train --interactions {log} {' '.join(options)}\n" in result.stdout
    result = check(log, "--items", str(tmp_path / "items.csv"), "--attribute-types", "shelf:number, colour:text")
    assert result.exit_code == 1
    assert "there is no column 'colour' to give a type" in result.stdout


def test_items_that_match_nothing_are_refused(log: Path, tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,title\n7,Seven\n")
    for arguments in (["check", str(log)], ["train", f"--interactions={log}", f"--releases={tmp_path / 'releases'}"]):
        result = CliRunner().invoke(app, [*arguments, "--items", str(tmp_path / "items.csv")], env={"COLUMNS": "200"})
        assert result.exit_code == 1
        assert "column item_id: no id is an item of the log; the ids are like '7', those of the log like 'item" in (
            result.output
        )
    assert not (tmp_path / "releases").exists()


def test_a_log_that_is_too_small_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\n" + "".join(f"u{n},i,1\n" for n in range(9)))
    result = check(tmp_path / "log.csv")
    assert result.exit_code == 1
    assert "9 watches by 9 users of 1 items" in result.stdout
    assert "error: " in result.stdout
    assert "too few watches: no user has two to train on" in result.stdout


def test_columns_are_named_and_passed_on(log: Path) -> None:
    changed(log, {"user_id,item_id": "customer,sku"})
    assert check(log).exit_code == 1
    result = check(log, "--user-column", "customer", "--item-column", "SKU")
    assert result.exit_code == 0, result.output
    assert "--preset auto --user-column customer --item-column SKU" in result.stdout


def test_a_log_without_times_is_read_where_that_is_said(log: Path) -> None:
    header, *rows = log.read_text().splitlines()
    log.write_text("\n".join(line.rsplit(",", 1)[0] for line in [header, *rows]))
    refused = check(log)
    assert refused.exit_code == 1
    assert "column timestamp is missing" in refused.stderr
    assert "(--time-column, or --no-times if it has none)" in refused.stderr
    result = check(log, "--no-times")
    assert result.exit_code == 0, result.output
    assert "960 rows, without times" in result.stdout
    assert "1970" not in result.stdout
    assert "the order of the watches says nothing" in result.stdout
    assert f"Train with: winnow train --interactions {log} --preset auto --no-times" in result.stdout


def test_more_threads_than_a_machine_can_have_are_refused(log: Path) -> None:
    # The process would end with a segmentation fault.
    assert check(log, "--threads=100000").exit_code == 2
