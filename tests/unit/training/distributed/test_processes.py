"""Which commands torchrun may start."""

import re

import pytest
from typer.testing import CliRunner

from winnow.cli import app
from winnow.training.distributed.processes import LAUNCH_VARIABLES


@pytest.mark.parametrize(
    "command",
    [
        ["retrain", "--users-store", "users.db", "--releases", "releases"],
        ["tune", "--interactions", "log.csv", "--minutes", "1"],
    ],
)
def test_what_does_not_share_its_work_refuses_to_be_started_by_torchrun(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in LAUNCH_VARIABLES:
        monkeypatch.setenv(name, "0")
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert re.search(rf"winnow {command[0]} runs in one process: start it without torchrun", result.output)
