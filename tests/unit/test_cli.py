import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from winnow.cli import app


def test_the_version_is_that_of_the_package() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.stdout == f"winnow {project['version']}\n"


def test_commands_load_what_they_need_when_they_run() -> None:
    # Who installs the client and the gateway has a `winnow health`, and none of these packages.
    others = {"faiss", "matplotlib", "obstore", "optuna", "polars", "scipy", "starlette", "torch"}
    show = f"import sys, winnow.cli; print({others!r} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", show], check=True, capture_output=True, text=True).stdout == "set()\n"


@pytest.mark.parametrize(
    ("shell", "line"), [("bash", "complete -o default -F"), ("zsh", "compdef _winnow_completion winnow")]
)
def test_completion_is_written_for_the_shell(shell: str, line: str) -> None:
    assert line in winnow(_WINNOW_COMPLETE=f"source_{shell}")


def test_bash_completes_commands_and_options() -> None:
    assert winnow(_WINNOW_COMPLETE="complete_bash", COMP_WORDS="winnow rec", COMP_CWORD="1").split() == ["recommend"]
    options = winnow(_WINNOW_COMPLETE="complete_bash", COMP_WORDS="winnow health --time", COMP_CWORD="2")
    assert options.split() == ["--timeout-seconds"]


def test_zsh_completes_commands() -> None:
    assert '"recommend"' in winnow(_WINNOW_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS="winnow rec")


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_is_installed_and_shown(tmp_path: Path, shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # For the shell that is asked for, not the one that runs the tests.
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "_WINNOW_COMPLETE" in winnow("--show-completion", shell)
    assert f"{shell} completion installed" in winnow("--install-completion", shell)
    assert any("_WINNOW_COMPLETE" in file.read_text() for file in tmp_path.rglob("*") if file.is_file())


def winnow(*arguments: str, **environment: str) -> str:
    """What the program prints."""
    return CliRunner().invoke(app, arguments, env=environment, prog_name="winnow").stdout
