"""How the demo fails: with the end of its log on the screen."""

from pathlib import Path
from typing import TextIO

import pytest
from rich.console import Console

from examples import movielens


def fail(_screen: Console, log: TextIO) -> None:
    print("first line", *range(100), "what went wrong", sep="\n", file=log)
    raise ValueError("no space left")


def stop(_screen: Console, _log: TextIO) -> None:
    raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(movielens, "forward_signals_as_exit", lambda: None)


def test_a_demo_that_fails_shows_the_end_of_its_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(movielens, "demo", fail)
    assert movielens.main() == 1
    screen = capsys.readouterr().out
    assert "The demo has failed. The end of runs/demo.log:" in screen
    assert "what went wrong" in screen
    assert "ValueError: no space left" in screen
    assert "first line" not in screen
    assert "first line" in Path("runs/demo.log").read_text()


def test_a_demo_that_is_stopped_says_that_it_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(movielens, "demo", stop)
    assert movielens.main() == 130
    assert "The next run continues" in capsys.readouterr().out
