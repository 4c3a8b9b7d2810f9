"""`winnow publish --engine milvus` where it cannot begin: one line, and what was current stays so."""

import shutil
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from winnow.cli import app
from winnow.release.reader import current_release_id

NOBODY = "--engine-address=http://127.0.0.1:1"


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["publish", *arguments])
    return result.exit_code, result.output


@pytest.fixture
def own(releases: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(releases, tmp_path / "releases"))


def test_without_milvus_nothing_becomes_current(own: Path) -> None:
    release_id = current_release_id(own)
    (own / "CURRENT").unlink()
    status, output = run(release_id, f"--releases={own}", "--engine=milvus", NOBODY, "--engine-timeout-seconds=1")
    assert (status, output.count("\n")) == (1, 1)
    assert output.startswith("Milvus at http://127.0.0.1:1: ")
    assert not (own / "CURRENT").exists()


def test_the_address_may_come_from_the_variables_of_the_service(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINNOW_CANDIDATE_ENGINE", "milvus")
    monkeypatch.setenv("WINNOW_CANDIDATE_ENGINE_ADDRESS", "milvus")
    status, output = run(current_release_id(own), f"--releases={own}")
    assert (status, output) == (1, "'milvus' is no address of Milvus, such as http://milvus:19530\n")


@pytest.mark.parametrize("release_id", ["releases/x", "", ".."])
def test_a_path_is_no_release(own: Path, release_id: str) -> None:
    status, output = run(release_id, f"--releases={own}", "--engine=milvus", NOBODY)
    assert status == 1
    assert output


def test_a_release_that_is_not_there_is_named(own: Path) -> None:
    status, output = run("20260101T000000Z-0123456789ab", f"--releases={own}", "--engine=milvus", NOBODY)
    assert status == 1
    assert "20260101T000000Z-0123456789ab" in output


def test_without_the_extra_it_says_what_to_install(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    for name in [name for name in sys.modules if name.startswith("winnow.milvus.")]:
        monkeypatch.delitem(sys.modules, name)
    result = CliRunner().invoke(app, ["publish", current_release_id(own), f"--releases={own}", "--engine=milvus"])
    assert result.exit_code == 1
    assert "pymilvus is not installed: pip install 'winnow-recommender[milvus]'" in str(result.exception)
