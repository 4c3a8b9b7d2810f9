"""`winnow health` against a real server: its exit status is what container health checks go by."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.service.process import running
from winnow.cli import app
from winnow.serving.local_stack import free_port


def exit_status(*arguments: str) -> int:
    return CliRunner().invoke(app, ["health", *arguments]).exit_code


def test_it_tells_a_healthy_server_from_others(releases: Path) -> None:
    with running("gateway", releases) as service:
        assert exit_status(service.target) == 0
        assert CliRunner().invoke(app, ["health", service.target]).stdout == f"{service.target} is serving\n"
        assert exit_status(service.target, "--service=liveness") == 0
        assert exit_status(service.target, "--service=winnow.v1.NoSuchService") == 1
    assert exit_status(service.target, "--timeout-seconds=0.2") == 1


@pytest.mark.parametrize("flag", ["--ca-file", "--certificate-file"])
def test_a_missing_certificate_is_a_usage_error(flag: str, tmp_path: Path) -> None:
    assert exit_status(f"127.0.0.1:{free_port('127.0.0.1')}", flag, str(tmp_path / "absent.pem")) == 2
