"""`winnow explore`: what it refuses, in one line, and the users of a log."""

import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from winnow.cli import app
from winnow.client import Watch
from winnow.commands.explore import metrics_urls, read_user_log
from winnow.explorer.server import address_of
from winnow.logs.log_format import PLAIN_LOG


@pytest.mark.parametrize("given", ["http://localhost:9464", "nobody=http://localhost:9464"])
def test_a_metrics_endpoint_is_of_a_service(given: str) -> None:
    result = CliRunner().invoke(app, ["explore", f"--metrics={given}"])
    assert result.exit_code == 2
    assert "SERVICE=URL" in result.output


def test_metrics_endpoints_are_read() -> None:
    assert metrics_urls(["gateway=http://a/b=c"]) == {"gateway": "http://a/b=c"}


def test_an_address_that_is_none_and_a_log_that_is_missing_are_said_in_a_line() -> None:
    for arguments in (["--port=0", "--metrics=gateway=file:///etc/passwd"], ["--interactions=/no/such/log.csv"]):
        result = CliRunner().invoke(app, ["explore", *arguments])
        assert result.exit_code == 1
        assert "Traceback" not in result.output


def test_a_port_that_is_taken_is_said_in_a_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = CliRunner().invoke(app, ["explore", f"--port={taken.getsockname()[1]}"])
    assert result.exit_code == 1
    assert "Address already in use" in result.output


def test_users_of_a_log_have_weights_and_times(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,timestamp,weight\nann,b,20,3\nann,a,10,4.5\nbob,a,5,1\n")
    log = read_user_log(path, PLAIN_LOG)
    assert (log.name, list(log.some_users)) == ("log.csv", ["ann", "bob"])
    assert log.watches("ann") == [Watch("a", 4.5, 10), Watch("b", 3.0, 20)]
    assert log.watches("eve") is None


def test_the_address_is_one_for_a_browser() -> None:
    with socket.socket() as everywhere:
        everywhere.bind(("0.0.0.0", 0))  # noqa: S104 - what containers do
        assert address_of(everywhere) == f"http://localhost:{everywhere.getsockname()[1]}/"


@pytest.mark.parametrize("arguments", [["--port=70000"], ["--port=-1"], ["--host="]])
def test_an_address_that_cannot_be_meant_is_an_error_of_usage(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, ["explore", *arguments]).exit_code == 2
