"""`winnow tune` leaves settings that `winnow train` reads, also where it is interrupted."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.unit.training.planted import write_planted_log
from winnow.cli import app
from winnow.locks import only_process_in


def arguments(directory: Path) -> list[str]:
    return ["tune", f"--interactions={directory / 'log.csv'}", f"--directory={directory / 'tune'}"]


def test_no_time_at_all_leaves_the_settings_of_auto(tmp_path: Path) -> None:
    write_planted_log(tmp_path / "log.csv")
    result = CliRunner().invoke(app, [*arguments(tmp_path), "--minutes=0"])
    assert result.exit_code == 0, result.output
    assert "the order of the watches says nothing (" in result.output
    assert f"--settings {tmp_path / 'tune' / 'settings.toml'}" in result.output
    assert (tmp_path / "tune" / "settings.toml").read_text().startswith("# No trial was completed")


def test_a_search_on_another_log_is_not_continued(tmp_path: Path) -> None:
    write_planted_log(tmp_path / "log.csv")
    assert CliRunner().invoke(app, [*arguments(tmp_path), "--minutes=0"]).exit_code == 0
    with (tmp_path / "log.csv").open("a") as file:
        file.write("user 1,item 1,99\n")
    result = CliRunner().invoke(app, [*arguments(tmp_path), "--minutes=0"])
    assert result.exit_code == 1
    assert "is a search on other data or settings" in result.output


def test_one_search_at_a_time(tmp_path: Path) -> None:
    """A second one would take the running trial of the first for one that was left by a killed process."""
    write_planted_log(tmp_path / "log.csv")
    with only_process_in(tmp_path / "tune"):
        result = CliRunner().invoke(app, [*arguments(tmp_path), "--minutes=0"])
        assert result.exit_code == 1
        assert "tune: another process is working there" in result.output.replace("\n", "")
    assert list((tmp_path / "tune").iterdir()) == []
    assert CliRunner().invoke(app, [*arguments(tmp_path), "--minutes=0"]).exit_code == 0


@pytest.mark.slow
def test_an_interrupted_search_is_trained_with(tmp_path: Path) -> None:
    write_planted_log(tmp_path / "log.csv")
    command = [sys.executable, "-m", "winnow.cli", *arguments(tmp_path), "--minutes=5", "--threads=1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("trial 1: "):
                process.send_signal(signal.SIGINT)
                break
        rest = process.stdout.read()
        assert process.wait() == 0
    assert "Interrupted." in rest
    assert "NDCG@10 on validation" in rest
    settings = f"--settings={tmp_path / 'tune' / 'settings.toml'}"
    train = ["train", f"--interactions={tmp_path / 'log.csv'}", settings, f"--releases={tmp_path / 'releases'}",
             f"--checkpoints={tmp_path / 'runs'}", "--publish=always"]  # fmt: skip
    result = CliRunner().invoke(app, train)
    assert result.exit_code == 0, result.output
