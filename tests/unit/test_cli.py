import tomllib
from pathlib import Path

from typer.testing import CliRunner

from winnow.cli import app


def test_the_version_is_that_of_the_package() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.stdout == f"winnow {project['version']}\n"
