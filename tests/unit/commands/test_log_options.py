"""Every command that reads a log reads it in the same formats."""

import dataclasses
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.unit.training.planted import write_planted_log
from winnow.cli import app
from winnow.commands.log_options import OPTIONS
from winnow.logs.log_format import LogFormat

COMMANDS = ["check", "train", "evaluate", "recommend"]


def test_every_field_of_a_log_format_is_an_option() -> None:
    assert list(OPTIONS) == [field.name for field in dataclasses.fields(LogFormat)]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_the_options(name: str) -> None:
    shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"}).stdout.split()
    assert {f"--{field.replace('_', '-')}" for field in OPTIONS} <= {*shown}


def test_an_unknown_unit_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["check", str(tmp_path / "log.csv"), "--time-unit", "weeks"])
    assert result.exit_code == 2
    assert "milliseconds" in result.output


def test_what_was_trained_on_in_a_format_of_its_own_is_evaluated_so(tmp_path: Path) -> None:
    log = tmp_path / "orders.tsv"
    write_planted_log(log)
    header, *rows = log.read_text().splitlines()
    stamped = [f"{row}000" if row.rsplit(",", 1)[1] != "0" else row for row in rows]
    log.write_text("\n".join(line.replace(",", "\t") for line in ["Customer,sku,when", *stamped, "u,i,soon"]))
    assert header == "user_id,item_id,timestamp"
    options = ["--user-column=customer", "--item-column=SKU", "--time-column=when", "--time-unit=milliseconds"]
    settings = tmp_path / "settings.toml"
    settings.write_text("[candidate]\nepochs = 1\n[ranking]\nepochs = 1\n")
    train = ["train", f"--interactions={log}", f"--releases={tmp_path / 'releases'}", f"--settings={settings}",
             f"--checkpoints={tmp_path / 'runs'}", *options, "--skip-bad-rows", "--publish=always"]  # fmt: skip
    result = CliRunner().invoke(app, train)
    assert result.exit_code == 0, result.output
    assert "Rows that cannot be read and are left out: 1 of 961. The first:" in result.output
    evaluate = ["evaluate", f"--release={tmp_path / 'releases'}", f"--interactions={log}", "--baseline=none"]
    result = CliRunner().invoke(app, [*evaluate, *options])
    assert result.exit_code == 1
    assert "column when, line 962: 'soon' must be milliseconds since 1970" in result.output
    result = CliRunner().invoke(app, [*evaluate, *options, "--skip-bad-rows"])
    assert result.exit_code == 0, result.output
    assert "Rows that cannot be read and are left out: 1 of 961. The first:\n  line 962: column when: " in result.output
